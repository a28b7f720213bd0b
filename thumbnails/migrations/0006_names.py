"""Names in the field's own words."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0005_kept_thumbnails")]

    operations: ClassVar = [
        migrations.RenameModel("Tally", "CachedCount"),
        migrations.AlterModelOptions("cachedcount", {"default_permissions": ()}),
        migrations.RenameField("run", "attended_until", "lease_until"),
    ]

"""Names in the field's own words.

Column and table keep theirs, so that processes of the version before go on beside new ones.
"""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0005_kept_thumbnails")]

    operations: ClassVar = [
        migrations.AlterModelTable("tally", "thumbnails_tally"),
        migrations.RenameModel("Tally", "CachedCount"),
        migrations.AlterModelOptions("cachedcount", {"default_permissions": ()}),
        migrations.AlterField(
            "run", "attended_until", models.DateTimeField(db_column="attended_until", null=True)
        ),
        migrations.RenameField("run", "attended_until", "lease_until"),
    ]

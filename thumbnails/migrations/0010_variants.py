"""Variants of thumbnails and their placeholders.

Processes of the version before insert rows without these columns until they are restarted.
"""

from typing import ClassVar

from django.db import migrations, models

NONE = models.Value({}, output_field=models.JSONField())


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0008_roots")]

    operations: ClassVar = [
        migrations.AddField(
            "imageasset",
            "thumbnail_variants",
            models.JSONField(db_default=NONE, default=dict, editable=False),
        ),
        migrations.AddField(
            "imageasset",
            "thumbnail_hash",
            models.CharField(blank=True, db_default="", default="", editable=False, max_length=40),
        ),
        migrations.AddField(
            "knownrecipe", "variants", models.JSONField(db_default=NONE, default=dict)
        ),
    ]

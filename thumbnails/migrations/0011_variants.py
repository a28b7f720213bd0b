"""Variants of thumbnails and their placeholders.

Processes of the version before insert rows without these columns until they are restarted.
"""

from typing import ClassVar

from django.db import migrations, models

from thumbnails.migrations._operations import AddFieldInPlace

NONE = models.Value({}, output_field=models.JSONField())


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0010_origin")]

    operations: ClassVar = [
        AddFieldInPlace(
            "imageasset",
            "thumbnail_variants",
            models.JSONField(db_default=NONE, default=dict, editable=False),
        ),
        AddFieldInPlace(
            "imageasset",
            "thumbnail_hash",
            models.CharField(blank=True, db_default="", default="", editable=False, max_length=40),
        ),
        migrations.AddField(
            "knownrecipe", "variants", models.JSONField(db_default=NONE, default=dict)
        ),
    ]

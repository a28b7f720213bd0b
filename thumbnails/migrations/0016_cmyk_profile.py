"""The profile for CMYK in recipes.

Processes of the version before insert rows without it until they are restarted.
"""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0015_report")]

    operations: ClassVar = [
        migrations.AddField(
            "knownrecipe",
            "cmyk_profile",
            models.CharField(db_default="", default="", max_length=16),
        ),
    ]

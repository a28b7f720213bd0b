"""Failures that staff accept, and their number in each chunk of a run.

Processes of the version before insert rows without these columns until they are restarted.
"""

from typing import ClassVar

from django.db import migrations, models

from thumbnails.migrations._operations import AddFieldInPlace


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0013_facts")]

    operations: ClassVar = [
        AddFieldInPlace(
            "imageasset",
            "accepted_source",
            models.CharField(editable=False, max_length=48, null=True),
        ),
        AddFieldInPlace("chunk", "accepted", models.PositiveIntegerField(db_default=0, default=0)),
    ]

"""What became of each image of a run, and which events of runs have yet to be mailed.

Processes of the version before write neither until they are restarted.
"""

from typing import ClassVar

from django.db import migrations, models

from thumbnails.migrations._operations import AddFieldInPlace


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0014_accepted")]

    operations: ClassVar = [
        AddFieldInPlace("chunk", "outcomes", models.BinaryField(db_default=b"", default=b"")),
        AddFieldInPlace(
            "runevent", "mail_due", models.BooleanField(db_default=False, default=False)
        ),
        migrations.AddIndex(
            "runevent",
            models.Index(
                condition=models.Q(("mail_due", True)), fields=["id"], name="event_to_be_mailed"
            ),
        ),
    ]

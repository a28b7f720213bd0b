"""An image may be in several sessions, and sessions may have equal names.

The images' column `session_id` stays, without its foreign key, because processes of the version
before read and write it until they are restarted. A later release drops it.
"""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

ENTER_MEMBERS = """
    INSERT INTO thumbnails_sessionimage (session_id, image_id, created_at)
    SELECT session_id, id, created_at FROM thumbnails_imageasset WHERE session_id IS NOT NULL
"""
KEEP_FIRST_SESSION = """
    UPDATE thumbnails_imageasset SET session_id =
    (SELECT MIN(session_id) FROM thumbnails_sessionimage WHERE image_id = thumbnails_imageasset.id)
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0006_names")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="SessionImage",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField()),
                (
                    "image",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to="thumbnails.imageasset",
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to="thumbnails.trainingsession",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        fields=["session", "created_at", "image"], name="session_in_creation_order"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("image", "session"), name="session_of_image")
                ],
            },
        ),
        # Before what follows locks the images.
        migrations.RunSQL(ENTER_MEMBERS, migrations.RunSQL.noop),
        migrations.RemoveIndex("imageasset", "image_by_session"),
        # Without its foreign key, so that deleting a session leaves the column alone.
        migrations.AlterField(
            "imageasset", "session", models.BigIntegerField(db_column="session_id", null=True)
        ),
        migrations.RunSQL(migrations.RunSQL.noop, KEEP_FIRST_SESSION),
        # SQLite would rebuild the table for the second, without the column.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField("imageasset", "session"),
                migrations.AddField(
                    "imageasset",
                    "sessions",
                    models.ManyToManyField(
                        blank=True,
                        related_name="assets",
                        through="thumbnails.SessionImage",
                        to="thumbnails.trainingsession",
                    ),
                ),
            ]
        ),
        # Back, sessions of equal names have to be renamed or deleted first.
        migrations.AlterField("trainingsession", "name", models.CharField(max_length=200)),
        migrations.AlterModelOptions("trainingsession", {"ordering": ["name", "pk"]}),
        migrations.AddIndex(
            "trainingsession", models.Index(fields=["name", "id"], name="session_by_name")
        ),
    ]

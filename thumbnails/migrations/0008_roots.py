"""Several roots of originals: a run leaves those that are away undone, and goes on with the others.

The columns of runs that counted failures in a row stay, because processes of the version before
read and write them until they are restarted. A later release drops them.
"""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

ENTER_MAIN_FOLDER = """
    INSERT INTO thumbnails_runroot
    (run_id, root, storage_errors, missing_in_a_row, ignores_missing, away)
    SELECT id, '', storage_errors, missing_in_a_row, ignores_missing,
        CASE WHEN state = 'paused' AND resume_at IS NOT NULL THEN pause_reason ELSE '' END
    FROM thumbnails_run
    WHERE state != 'done' AND (storage_errors > 0 OR missing_in_a_row > 0 OR ignores_missing)
"""
COUNTERS = ("storage_errors", "missing_in_a_row", "ignores_missing")


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0007_sessions")]

    operations: ClassVar = [
        migrations.AddField(
            "chunk", "root", models.CharField(db_default="", default="", max_length=50)
        ),
        migrations.CreateModel(
            name="RunRoot",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("root", models.CharField(max_length=50)),
                ("storage_errors", models.PositiveIntegerField(default=0)),
                ("missing_in_a_row", models.PositiveIntegerField(default=0)),
                ("ignores_missing", models.BooleanField(default=False)),
                ("away", models.CharField(blank=True, max_length=300)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="roots",
                        to="thumbnails.run",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("run", "root"), name="root_of_run")
                ],
            },
        ),
        migrations.AlterField(
            "runevent",
            "kind",
            models.CharField(
                choices=[
                    ("started", "Started"),
                    ("paused", "Paused"),
                    ("resumed", "Resumed"),
                    ("cancelled", "Cancelled"),
                    ("done", "Done"),
                    ("worker_lost", "Worker Lost"),
                    ("also_wanted", "Also Wanted"),
                    ("root_away", "Root Away"),
                ],
                max_length=12,
            ),
        ),
        # The others have one.
        migrations.AlterField(
            "run", "storage_errors", models.PositiveIntegerField(db_default=0, default=0)
        ),
        migrations.RunSQL(ENTER_MAIN_FOLDER, migrations.RunSQL.noop),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField("run", name) for name in COUNTERS]
        ),
    ]

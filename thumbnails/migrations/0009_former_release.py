"""What processes of the version before write reaches the tables that they do not know.

Until they are restarted they delete images, sessions and runs without the rows that refer to them
now, and put an image into a session by the images' column `session_id`. A later release drops
these triggers, with the columns that the version before reads.
"""

from typing import ClassVar

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

ENTER = """
    INSERT INTO thumbnails_sessionimage (session_id, image_id, created_at)
    SELECT NEW.session_id, NEW.id, NEW.created_at WHERE NEW.session_id IS NOT NULL
    ON CONFLICT DO NOTHING;
"""
LEAVE = """
    DELETE FROM thumbnails_sessionimage WHERE image_id = OLD.id AND session_id = OLD.session_id
    AND (NEW.session_id IS NULL OR NEW.session_id <> OLD.session_id);
"""
TRIGGERS = {
    "thumbnails_imageasset_deleted": (
        "AFTER DELETE ON thumbnails_imageasset FOR EACH ROW",
        "DELETE FROM thumbnails_sessionimage WHERE image_id = OLD.id;",
    ),
    "thumbnails_trainingsession_deleted": (
        "AFTER DELETE ON thumbnails_trainingsession FOR EACH ROW",
        "DELETE FROM thumbnails_sessionimage WHERE session_id = OLD.id;",
    ),
    "thumbnails_run_deleted": (
        "AFTER DELETE ON thumbnails_run FOR EACH ROW",
        "DELETE FROM thumbnails_runroot WHERE run_id = OLD.id;",
    ),
    "thumbnails_session_entered": (
        # With a condition, since the import of a million images inserts none of these.
        "AFTER INSERT ON thumbnails_imageasset FOR EACH ROW WHEN (NEW.session_id IS NOT NULL)",
        ENTER,
    ),
    "thumbnails_session_changed": (
        "AFTER UPDATE OF session_id ON thumbnails_imageasset FOR EACH ROW",
        LEAVE + ENTER.replace("IS NOT NULL", "<> COALESCE(OLD.session_id, 0)"),
    ),
}
"""By name: when, and the statements, which both databases understand."""


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    vendor = schema_editor.connection.vendor
    for name, (when, statements) in TRIGGERS.items():
        if vendor == "postgresql":
            schema_editor.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN {statements} RETURN NULL; END $$",
                params=None,
            )
            does = f"EXECUTE FUNCTION {name}()"
        elif vendor == "sqlite":
            does = f"BEGIN {statements} END"
        else:
            return
        schema_editor.execute(f"CREATE TRIGGER {name} {when} {does}", params=None)


def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    vendor = schema_editor.connection.vendor
    for name in TRIGGERS:
        if vendor == "postgresql":
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {name}() CASCADE", params=None)
        elif vendor == "sqlite":
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}", params=None)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0008_roots")]

    operations: ClassVar = [migrations.RunPython(create, drop)]

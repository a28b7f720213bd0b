"""Variants of thumbnails and their placeholders.

Processes of the version before insert rows without these columns until they are restarted.
"""

from typing import ClassVar

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState

NONE = models.Value({}, output_field=models.JSONField())


class AddFieldInPlace(migrations.AddField):
    """For SQLite, where Django would rebuild the table: without the column and the triggers that
    processes of the version before need and the models do not know."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if schema_editor.connection.vendor != "sqlite":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        field = model._meta.get_field(self.name)
        definition, _ = schema_editor.column_sql(model, field)
        table, column = map(schema_editor.quote_name, (model._meta.db_table, field.column))
        schema_editor.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}", params=None)


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

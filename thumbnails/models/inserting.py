"""Inserting many rows at a third of what `bulk_create` costs."""

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from django.db import connections, models, router

M = TypeVar("M", bound=models.Model)


def insert(
    model: type[M],
    rows: Sequence[M],
    *,
    varying: Collection[str],
    ignore_conflicts: bool = False,
) -> None:
    """Insert the rows by one prepared statement.

    Only fields in `varying` are read from each row; the others are those of the first one. Without
    a value of its own the primary key is the database's to set. To be called in a transaction.
    """
    if not rows:
        return
    connection = connections[router.db_for_write(model)]
    fields = [
        field
        for field in model._meta.concrete_fields
        if not field.primary_key or rows[0].pk is not None
    ]

    def prepared(field: "models.Field[Any, Any]", row: M) -> Any:
        return field.get_db_prep_save(field.pre_save(row, add=True), connection)

    same = {
        field: prepared(field, rows[0])
        for field in fields
        if not {field.name, field.attname} & set(varying)
    }
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    end = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}){end}",  # noqa: S608  names from the model
            [
                [same[field] if field in same else prepared(field, row) for field in fields]
                for row in rows
            ],
        )

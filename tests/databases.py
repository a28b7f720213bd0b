"""Emptying the tests' database, after each test that commits."""

from __future__ import annotations

from django.db import connection, transaction

KEPT = {"auth_permission", "django_content_type"}
"""What migrating fills."""


def empty_tables() -> None:
    """Delete all rows but those that migrating makes.

    Django truncates all tables and makes those rows again, which takes several times as long.
    """
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = [connection.ops.quote_name(name) for name in sorted({*names} - KEPT)]
    # Foreign keys are looked at when the transaction ends.
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # As truncating does, it waits for what killed processes had begun to write.
            cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            " UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (SELECT 1 FROM {t})" for t in tables)  # noqa: S608
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608

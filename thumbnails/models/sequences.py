"""The sequences that new rows take their ids from."""

from django.db import connections, models, router


def keep_free(model: type[models.Model], last_id: int) -> None:
    """Let the ids of new rows begin after `last_id`. Never lets them begin earlier than now."""
    table = model._meta.db_table
    connection = connections[router.db_for_write(model)]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [table])
            (sequence,) = cursor.fetchone()
            cursor.execute(
                f"SELECT setval(%s, GREATEST(%s, last_value)) FROM {sequence}",  # noqa: S608  the database's own name
                [sequence, last_id],
            )
            return
        cursor.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, %s) WHERE name = %s", [last_id, table]
        )
        if cursor.rowcount == 0:  # no row was ever inserted
            cursor.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, last_id]
            )

"""The database backend `thumbsite.sqlite3`.

SQLite itself makes its files readable for all users, and this one holds password hashes, sessions
and the names of private pictures.
"""

import os
from contextlib import suppress
from sqlite3 import Connection
from typing import Any

from django.db.backends.sqlite3 import base

FILE_MODE = 0o600


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        _create(str(conn_params["database"]))
        connection: Connection = super().get_new_connection(conn_params)
        return connection


def _create(name: str) -> None:
    """Create the database's file if there is none; log and index take over its mode."""
    if name == ":memory:" or name.startswith("file:"):  # that is a URI, as SQLite knows them
        return
    # One that is there is not opened: closing it again would drop the locks that this process's
    # other connections have on it. What cannot be made, SQLite cannot make either, and says why.
    with suppress(OSError):
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))

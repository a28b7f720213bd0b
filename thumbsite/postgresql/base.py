"""The database backend `thumbsite.postgresql`.

Without it a PostgreSQL that hangs would hang every request and every worker, too:
`connect_timeout` covers only the connection itself, and `statement_timeout` needs a server that
still runs.
"""

from types import ModuleType
from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.schema import DatabaseSchemaEditor
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

T = TypeVar("T")

ANSWER_SECONDS = "answer_seconds"
"""The backend's own key of OPTIONS; without it a query waits for as long as it takes."""


class Connection(psycopg.Connection[Any]):
    """Closes itself and raises OperationalError when an answer takes too long."""

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """All that psycopg sends to the server passes here, BEGIN, COMMIT and ROLLBACK too."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except _WaitTimeout:
            # The answer may still come: nothing else can be asked through this connection.
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"The database has not answered for {self.answer_seconds:g} seconds."
            ) from None


class SchemaEditor(DatabaseSchemaEditor):
    """Has no limit: every operation of a migration uses one, and an index may take long."""

    connection: "DatabaseWrapper"

    def __enter__(self) -> "SchemaEditor":
        super().__enter__()
        self.connection.set_limit(None)
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self.connection.set_limit(self.connection.limit_of_settings)


# Django asks it for the exceptions' classes and for `connect`.
_PSYCOPG = ModuleType(psycopg.__name__)
vars(_PSYCOPG).update(vars(psycopg), connect=Connection.connect)


class DatabaseWrapper(base.DatabaseWrapper):
    Database = _PSYCOPG
    SchemaEditorClass = SchemaEditor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = self.limit_of_settings

    @property
    def limit_of_settings(self) -> float | None:
        limit: float | None = self.settings_dict["OPTIONS"].get(ANSWER_SECONDS)
        return limit

    def set_limit(self, seconds: float | None) -> None:
        """Set the limit of the current connection and of later ones; None for no limit."""
        self._limit = seconds
        if self.connection is not None:
            self.connection.answer_seconds = seconds

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        params.pop(ANSWER_SECONDS, None)  # psycopg does not know it
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        connection: Connection = super().get_new_connection(conn_params)
        connection.answer_seconds = self._limit
        return connection

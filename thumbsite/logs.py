"""The site's log: one line a record, or one JSON object, each with the request that it is about."""

import logging
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this thread is answering; empty outside of requests."""


class RequestIdFilter(logging.Filter):
    """Gives each record of a request its `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if current := request_id.get():
            record.request_id = current
        return True


class LineFormatter(logging.Formatter):
    """One line a record, whatever file names it contains, with the id of the request at its end.

    A traceback follows on further lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        line = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in super().formatMessage(record)
        )
        current = getattr(record, "request_id", "")
        return f"{line} [{current}]" if current else line

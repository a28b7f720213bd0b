"""Readiness: whether the site can serve requests, for load balancers."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from enum import StrEnum
from threading import Lock, Thread

from django.db import Error as DatabaseError
from django.db import connection

from thumbnails.exceptions import QueueDown, StorageFailure
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep import queue

LIMIT_SECONDS = 5.0
"""A dependency that has not answered by then is unavailable."""


class Dependency(StrEnum):
    """What the site needs to serve requests."""

    DATABASE = "database"
    QUEUE = "queue"
    CACHE = "cache"


class _Check:
    """Checks a dependency in a thread, so that one that hangs blocks no request."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._last: Future[bool] | None = None

    def start(self) -> Future[bool]:
        """Returns the future result. One check at a time: a dependency that hangs would otherwise
        fill the process with threads."""
        with self._lock:
            if self._last is None or self._last.done():
                self._last = Future()
                Thread(target=self._answer, args=[self._last], daemon=True).start()
            return self._last

    def _answer(self, future: Future[bool]) -> None:
        try:
            self._ask()
        except (DatabaseError, QueueDown, StorageFailure):
            future.set_result(False)
        except BaseException as error:  # noqa: BLE001  raised again in the caller
            future.set_exception(error)
        else:
            future.set_result(True)


def reachable() -> dict[Dependency, bool]:
    """Returns which dependencies answer, after LIMIT_SECONDS at the latest."""
    answers = {part: check.start() for part, check in _CHECKS.items()}
    wait(answers.values(), LIMIT_SECONDS)
    return {part: answer.done() and answer.result() for part, answer in answers.items()}


def _ask_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()  # each thread has its own


def _ask_cache() -> None:
    cache.check_reachable()


_CHECKS = {
    Dependency.DATABASE: _Check(_ask_database),
    Dependency.QUEUE: _Check(queue.ping),
    Dependency.CACHE: _Check(_ask_cache),
}

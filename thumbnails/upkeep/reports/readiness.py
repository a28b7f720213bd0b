"""Readiness: whether the site can serve requests, for load balancers."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from enum import StrEnum
from threading import Lock, Thread

from django.db import Error as DatabaseError
from django.db import connection

from thumbnails.exceptions import QueueDown, StorageFailure
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.runs import queue

LIMIT_SECONDS = 5.0
"""A dependency that has not answered by then is unavailable."""


class Dependency(StrEnum):
    """What the site needs to serve requests."""

    DATABASE = "database"
    QUEUE = "queue"
    CACHE = "cache"


class _Check:
    """Checks a dependency in a thread, so that one that hangs blocks no request."""

    def __init__(self, ask: Callable[[], bool]) -> None:
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
            future.set_result(self._ask())
        except BaseException as error:  # noqa: BLE001  raised again in the caller
            future.set_exception(error)


def reachable() -> dict[Dependency, bool]:
    """Returns which dependencies answer, after LIMIT_SECONDS at the latest."""
    answers = {part: check.start() for part, check in _CHECKS.items()}
    wait(answers.values(), LIMIT_SECONDS)
    return {part: answer.done() and answer.result() for part, answer in answers.items()}


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    finally:
        connection.close()  # each thread has its own
    return True


def _queue_answers() -> bool:
    try:
        queue.ping()
    except QueueDown:
        return False
    return True


def _cache_answers() -> bool:
    try:
        cache.check_reachable()
    except StorageFailure:
        return False
    return True


_CHECKS = {
    Dependency.DATABASE: _Check(_database_answers),
    Dependency.QUEUE: _Check(_queue_answers),
    Dependency.CACHE: _Check(_cache_answers),
}

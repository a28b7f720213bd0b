"""Whether the site has what it needs to serve: load balancers send it requests, or not."""

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
"""A part that has not answered by then does not answer."""


class Dependency(StrEnum):
    """What the site stands on."""

    DATABASE = "database"
    QUEUE = "queue"
    CACHE = "cache"


class _Question:
    """Asks a dependency in a thread: whatever hangs there, a lost mount too, hangs no request."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._last: Future[bool] | None = None

    def put(self) -> Future[bool]:
        """Return the answer to come; one question at a time, or a part that hangs would fill the
        process with threads."""
        with self._lock:
            if self._last is None or self._last.done():
                self._last = Future()
                Thread(target=self._answer, args=[self._last], daemon=True).start()
            return self._last

    def _answer(self, future: Future[bool]) -> None:
        try:
            future.set_result(self._ask())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            future.set_exception(error)


def reachable() -> dict[Dependency, bool]:
    """Which of its parts answer, after LIMIT_SECONDS at the latest."""
    answers = {part: question.put() for part, question in _QUESTIONS.items()}
    wait(answers.values(), LIMIT_SECONDS)
    return {part: answer.done() and answer.result() for part, answer in answers.items()}


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    finally:
        connection.close()  # it is this thread's own
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


_QUESTIONS = {
    Dependency.DATABASE: _Question(_database_answers),
    Dependency.QUEUE: _Question(_queue_answers),
    Dependency.CACHE: _Question(_cache_answers),
}

"""Whether the site has what it needs to serve: for whoever sends it requests, or not."""

from collections.abc import Callable
from enum import StrEnum

from django.db import DatabaseError, connection

from thumbnails.cache import storage as cache
from thumbnails.exceptions import StorageFailure
from thumbnails.upkeep import queue


class Part(StrEnum):
    """What the site stands on."""

    DATABASE = "database"
    QUEUE = "queue"
    CACHE = "cache"


def reachable() -> dict[Part, bool]:
    """Which of its parts answer."""
    asked: dict[Part, tuple[Callable[[], object], type[Exception]]] = {
        Part.DATABASE: (_ask_database, DatabaseError),
        Part.QUEUE: (queue.ping, queue.QueueDown),
        Part.CACHE: (cache.check_reachable, StorageFailure),
    }
    return {part: _answers(ask, error) for part, (ask, error) in asked.items()}


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _answers(ask: Callable[[], object], error: type[Exception]) -> bool:
    try:
        ask()
    except error:
        return False
    return True

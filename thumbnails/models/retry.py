"""Retrying while the database is unavailable: restarted, failed over, or locked."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.5

T = TypeVar("T")


def retry_while_database_is_down(act: Callable[[], T]) -> T:
    """Returns what `act` does; retries it for up to PATIENCE_SECONDS.

    `act` must be idempotent: a commit may succeed although its answer is lost. Within a
    transaction of the caller it is not retried.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block or time.monotonic() > give_up_at:
                raise
            logger.warning("The database does not answer; trying again")
            connection.close()
            time.sleep(PAUSE_SECONDS)

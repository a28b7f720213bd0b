"""Waiting for a database that is away for a while: restarted, failed over, or locked."""

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
    """What `act` returns, tried again while the database is away, for up to PATIENCE_SECONDS.

    `act` must be good to be done twice: its commit may have result though its answer did not.
    Inside a transaction of the caller nothing is tried again.
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

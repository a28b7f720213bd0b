"""Waiting for what another process does, or for its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""Generous, so that no slow machine fails a test: waiting ends as soon as it may."""


def wait_for(
    condition: Callable[[], T],
    what: str,
    timeout_seconds: float = PATIENCE_SECONDS,
    interval_seconds: float = 0.02,
) -> T:
    """Ask `condition` until its answer is true, and return that answer.

    After `timeout_seconds` raises AssertionError, which says `what` was waited for and the last
    answer.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s in vain for {what}: {answer!r}")
        time.sleep(interval_seconds)
    return answer


def is_alive(process: psutil.Process) -> bool:
    """False also for one that has ended and was not waited for yet (a zombie)."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

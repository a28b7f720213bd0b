"""A run's rate limit, shared by all processes that work on it."""

import time
from collections.abc import Callable
from datetime import timedelta

from django.db import transaction

from thumbnails.models import Run, clock
from thumbnails.models.retry import retry_while_database_is_down

RESERVED_SECONDS = 0.25
"""How much of the run's time a worker reserves at once: few queries, and no long bursts."""
POLL_SECONDS = 0.25


class RateLimit:
    """Delays a worker's next image to keep the run's rate."""

    def __init__(self, run: Run, images: int, should_stop: Callable[[], bool]) -> None:
        self._run = run
        self._images = images
        self._should_stop = should_stop
        self._reserved = 0
        self._begin_at = 0.0

    def wait(self) -> None:
        """Wait until the next image may be begun, or the worker is to stop."""
        rate = self._run.rate
        if rate is None:
            return
        if self._reserved == 0:
            self._reserved = max(1, min(self._images, int(rate * RESERVED_SECONDS)))
            wait_seconds = retry_while_database_is_down(self._reserve)
            self._begin_at = time.monotonic() + wait_seconds
        while (left := self._begin_at - time.monotonic()) > 0 and not self._should_stop():
            time.sleep(min(left, POLL_SECONDS))
        self._reserved -= 1
        self._images -= 1
        self._begin_at += 1 / rate

    def _reserve(self) -> float:
        """Reserve the run's next slots. Returns the seconds until the first of them."""
        rate = self._run.rate or 1.0
        now = clock.now()
        with transaction.atomic():
            run = Run.objects.select_for_update().get(pk=self._run.pk)
            begin = max(run.next_slot_at or now, now)
            run.next_slot_at = begin + timedelta(seconds=self._reserved / rate)
            run.save(update_fields=["next_slot_at"])
        return (begin - now).total_seconds()

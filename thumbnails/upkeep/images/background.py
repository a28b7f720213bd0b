"""Refreshing thumbnails behind requests: by the workers, soon, and once however many ask."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from thumbnails.exceptions import QueueDown, Reason
from thumbnails.models import ImageAsset
from thumbnails.models.recipes import is_own_in_force
from thumbnails.models.retry import retry_while_database_is_down
from thumbnails.rendering.pool import NotDecoded, RenderPool
from thumbnails.storage import deadlines
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.images.freshness import TRANSIENT, is_worth_a_try, refresh_now
from thumbnails.upkeep.images.logs import log_result

logger = logging.getLogger(__name__)

COLLECT_SECONDS = 0.05
"""How long a process collects assets before it sends them to the queue, in one round trip."""
FINISH_SECONDS = 1.0
"""How long a process that ends waits for that."""
WAITING_AT_MOST = 10_000
"""Assets that wait to be sent; more are dropped, and requested by a later visit."""
ASK_AGAIN_SECONDS = 30.0
"""How long a process does not send an asset again."""
REMEMBERED_AT_MOST = 100_000


class Requests:
    """What this process has to send to the queue, and has sent lately."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: list[int] = []
        self._sent_at: dict[int, float] = {}
        self.is_sending = False

    def add(self, asset_id: int) -> None:
        now = time.monotonic()
        if now - self._sent_at.get(asset_id, float("-inf")) < ASK_AGAIN_SECONDS:
            return
        with self._guard:
            if len(self._waiting) >= WAITING_AT_MOST:
                return
            if len(self._sent_at) >= REMEMBERED_AT_MOST:
                self._sent_at.clear()
            self._sent_at[asset_id] = now
            self._waiting.append(asset_id)
            if self.is_sending:
                return
            self.is_sending = True
        try:
            deadlines.begin(self._send, place="queue")
        except TimeoutError:
            self.is_sending = False

    def _send(self) -> None:
        try:
            while some := self._collected():
                queue.enqueue_refresh(some)
        except QueueDown as error:
            logger.warning("Stale thumbnails are not refreshed: %s", error)
        finally:
            # Also after an error. A second thread that was just begun does no harm.
            self.is_sending = False

    def _collected(self) -> list[int]:
        time.sleep(COLLECT_SECONDS)
        with self._guard:
            some, self._waiting = self._waiting, []
            self.is_sending = bool(some)
        return some


_requests = Requests()


def _forget() -> None:
    """After a fork: threads are not inherited."""
    global _requests  # noqa: PLW0603
    _requests = Requests()


os.register_at_fork(after_in_child=_forget)


def _finish() -> None:
    """At the end of the process: a thread for what may hang is not waited for by itself."""
    ends_at = time.monotonic() + FINISH_SECONDS
    while _requests.is_sending and time.monotonic() < ends_at:
        time.sleep(COLLECT_SECONDS / 10)


atexit.register(_finish)


def refresh_soon(asset_id: int) -> None:
    """Have the workers refresh an asset. Returns at once, and raises nothing.

    What is lost, as where the queue is down, is requested again by a later visit.
    """
    _requests.add(asset_id)


def refresh_assets(asset_ids: Iterable[int], should_stop: Callable[[], bool]) -> None:
    """Refresh these assets one by one, in a worker, and save each result.

    Leaves the rest undone if `should_stop` returns True, a storage fails or an original is missing
    (a disk may not be mounted), or this process's recipe is not in force: visits request them
    again.
    """
    remaining = list(asset_ids)
    # With low priority: visitors are waiting for other images.
    pool = pools.worker_pool(large=True)
    try:
        with suppress(NotDecoded):
            while remaining and not should_stop() and is_own_in_force():
                if _refresh(remaining[0], pool) in TRANSIENT:
                    break
                queue.end_refresh([remaining.pop(0)])
    finally:
        if remaining:
            queue.end_refresh(remaining)


def _refresh(asset_id: int, pool: RenderPool) -> Reason | None:
    """Returns why it failed, if it did. Does not try again what failed for good."""
    asset = retry_while_database_is_down(ImageAsset.objects.filter(pk=asset_id).first)
    if asset is None or (asset.state.is_failure and not is_worth_a_try(asset)):
        return None
    began_at = time.monotonic()
    result = refresh_now(asset_id, pool)
    if result is not None:
        log_result(result, "behind a request", seconds=time.monotonic() - began_at)
    return None if result is None else result.reason

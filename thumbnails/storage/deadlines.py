"""Timeouts for calls that may hang, such as those to a network disk or an object storage."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

HANGING_AT_MOST = 32
"""Abandoned threads per place; beyond that no more calls are started there."""


class _Helper(threading.Thread):
    """A reusable daemon thread that runs one task at a time."""

    def __init__(self) -> None:
        super().__init__(name="thumbnails-deadline", daemon=True)
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            self.inbox.get()()
            _idle.append(self)


_idle: list[_Helper] = []
_hanging: dict[str, set["Future[Any]"]] = {}
"""By place."""


def _forget() -> None:
    """After a fork: threads are not inherited."""
    _idle.clear()
    _hanging.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def begin(act: Callable[[], T], *, place: str) -> "Future[T]":
    """Call `act` in another thread. Raises TimeoutError if HANGING_AT_MOST hang in that place."""
    if len(_hanging.get(place, ())) >= HANGING_AT_MOST:
        raise TimeoutError
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = act()
        except BaseException as error:  # noqa: BLE001  raised again in the caller
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        helper = _idle.pop()
    except IndexError:
        helper = _Helper()
    helper.inbox.put(run)
    return future


def within(
    seconds: float,
    act: Callable[[], T],
    *,
    place: str,
    discard: Callable[[T], None] | None = None,
) -> T:
    """Returns or raises what `act` does, if it ends within that time.

    Raises TimeoutError otherwise: `act` goes on in its thread, and a late result is passed to
    `discard`.
    """
    future = begin(act, place=place)
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # raised by `act` itself, or done at the last moment
            return future.result()
        hanging = _hanging.setdefault(place, set())
        hanging.add(future)

        def ended(late: "Future[T]") -> None:
            hanging.discard(late)
            if discard is not None and late.exception() is None:
                discard(late.result())

        future.add_done_callback(ended)
        raise

"""Signals that ask a command to stop: recorded in the handler, handled where it is safe."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from thumbnails.exceptions import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the command was asked to stop.

    The handler only records the signal: an exception raised between any two lines of Python could
    leave an open transaction or an orphaned process behind.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._by = ""
        self._raises = False
        self.times = 0

    def is_asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is asked to stop, at most that long. Returns whether it is asked."""
        return self._asked.wait(seconds)

    def raise_if_asked(self) -> None:
        """Raises Interrupted."""
        if self.is_asked():
            raise Interrupted(f"Stopped by {self._by}.")

    def ask(self, by: str) -> None:
        self._by = self._by or by
        self.times += 1
        self._asked.set()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, signals raise Interrupted immediately, such as while the command prompts."""
        self._raises = True
        try:
            self.raise_if_asked()
            yield
        finally:
            self._raises = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Inside, Ctrl-C, SIGTERM and SIGHUP ask to stop. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return

        def note(number: int, _: FrameType | None) -> None:
            self.ask(signal.Signals(number).name)
            if self._raises:
                self.raise_if_asked()

        before = {}
        try:
            for number in SIGNALS:
                # Under nohup SIGHUP stays ignored.
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, note)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

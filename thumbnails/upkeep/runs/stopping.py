"""Signals that ask a command to end: noted at once, heeded where that harms nothing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from thumbnails.exceptions import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the command was asked to end.

    The handler only takes note. An exception raised between any two lines of Python would leave
    behind what those lines were about: half a transaction, a process without its parent.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._by = ""
        self._raises = False
        self.times = 0

    def is_asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Return when it is asked to end, or after so many seconds. True: it is asked."""
        return self._asked.wait(seconds)

    def raise_if_asked(self) -> None:
        """Raises Interrupted."""
        if self.is_asked():
            raise Interrupted(self.reason)

    @property
    def reason(self) -> str:
        return f"Stopped by {self._by}."

    def ask(self, by: str) -> None:
        self._by = self._by or by
        self.times += 1
        self._asked.set()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it they raise Interrupted: while a person is asked, nothing is in work."""
        self._raises = True
        try:
            self.raise_if_asked()
            yield
        finally:
            self._raises = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within it Ctrl-C, SIGTERM and SIGHUP ask to end. Only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield  # as where a test or another program calls the command
            return

        def note(number: int, _: FrameType | None) -> None:
            self.ask(signal.Signals(number).name)
            if self._raises:
                self.raise_if_asked()

        before = {}
        try:
            for number in SIGNALS:
                # Under nohup SIGHUP is ignored, and stays so.
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, note)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

"""What a test tells the decoder's stand-in in the site's processes, and what that tells the test.

Both look at one folder, so a decoder can be slowed down, broken and mended while workers run.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Step(StrEnum):
    BEGIN = "begin"
    HELD = "held"
    END = "end"


class Poison(StrEnum):
    SEGFAULT = "segfault"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Event:
    """A step of rendering one picture."""

    at: float
    """Seconds since 1970."""
    pid: int
    step: Step
    picture: str
    """The original's name."""


class Switchboard:
    """Its methods are for the test, but for those that the stand-in calls, at the end."""

    VARIABLE = "FAULTS_FOLDER"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: list[Event] = []
        self._read_to = 0

    @classmethod
    def of_environment(cls) -> Switchboard:
        return cls(Path(os.environ[cls.VARIABLE]))

    # --- What happened ----------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """All of them, in the order in which they happened."""
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(self._read_to)
                whole, _, _ = log.read().rpartition(b"\n")
            self._read_to += len(whole) + 1 if whole else 0
            for line in whole.decode().splitlines():
                at, pid, step, picture = line.split(" ", 3)
                self._events.append(Event(float(at), int(pid), Step(step), picture))
        return self._events

    def begun(self) -> int:
        return self._count(Step.BEGIN)

    def ended(self) -> int:
        return self._count(Step.END)

    def held(self) -> int:
        """How many pictures had to wait, or still have to."""
        return self._count(Step.HELD)

    def _count(self, step: Step) -> int:
        return sum(1 for event in self.events() if event.step == step)

    def times_rendered(self) -> Counter[str]:
        """How often each picture was rendered to its end."""
        return Counter(event.picture for event in self.events() if event.step == Step.END)

    # --- What shall happen ------------------------------------------------------------------------

    def slow_down(self, seconds: float) -> None:
        """Let each picture take so much longer, from now on."""
        self._write("seconds", str(seconds))

    def hold(self) -> None:
        """Let each picture wait, once begun, until `let_go`."""
        self._write("hold", "")

    def let_go(self) -> None:
        (self.folder / "hold").unlink()

    def poison(self, poison: Poison, *pictures: str) -> None:
        """Let these pictures do that to the process that decodes them."""
        self._write(poison, "\n".join(pictures))

    def mend(self) -> None:
        for poison in Poison:
            (self.folder / poison).unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}"
        temporary.write_text(text)
        temporary.replace(self.folder / name)

    # --- For the stand-in -------------------------------------------------------------------------

    def note(self, step: Step, picture: str) -> None:
        line = f"{time.time():.6f} {os.getpid()} {step} {picture}\n"
        with self._log.open("ab", buffering=0) as log:
            log.write(line.encode())  # one write, appended: lines of many processes do not mix

    def wait(self, picture: str) -> None:
        time.sleep(float(self._read("seconds") or 0))
        hold = self.folder / "hold"
        if hold.exists():
            self.note(Step.HELD, picture)
        while hold.exists():
            time.sleep(0.01)

    def poison_of(self, picture: str) -> Poison | None:
        return next(
            (poison for poison in Poison if picture in self._read(poison).splitlines()), None
        )

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return ""

    @property
    def _log(self) -> Path:
        return self.folder / "log"

"""Runs the processes that the Procfile names: `python -m thumbsite.demo.supervisor web worker=2`.

honcho reads the Procfile and prints the lines. Its own manager is not enough: it ends the whole
site when one process dies, ends the queue's server while workers still need it, and orphans the
work horse of a busy worker, which has a process group of its own.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"
# Ends after the others, which use it until they end.
QUEUE = "queue"

# How long the others may take after each SIGTERM, and then the queue: 7 seconds at most.
GRACE_SECONDS = (3, 2)
QUEUE_GRACE_SECONDS = 2

# A process that died is started again after a pause, which doubles while it keeps dying soon.
FIRST_PAUSE_SECONDS = 1
LONGEST_PAUSE_SECONDS = 30
STABLE_SECONDS = 30

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Supervised:
    """One process of the site, through all its restarts."""

    # Shared by all: their threads print to the same output.
    printing = threading.Lock()

    def __init__(self, name: str, command: str, printer: Printer, colour: str) -> None:
        self.name = name
        self.command = command
        self.printer = printer
        self.colour = colour
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_again_at = 0.0
        self.pause_seconds = FIRST_PAUSE_SECONDS

    def start(self) -> None:
        # A session of its own: Ctrl-C reaches it through the supervisor only, and all that it
        # starts can be found.
        self.process = subprocess.Popen(  # noqa: S602  Procfile commands are for a shell
            self.command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  one system call, no locks
        )
        self.started_at = time.monotonic()
        threading.Thread(target=self.relay, args=[self.process.stdout], daemon=True).start()

    def relay(self, lines: Iterable[bytes]) -> None:
        """Print the process's output until it ends."""
        for line in lines:
            self.say(line)

    def say(self, text: str | bytes) -> None:
        message = Message("line", text, datetime.now().astimezone(), self.name, self.colour)
        # Even if the output is closed, the process must not block on a full pipe.
        with self.printing, contextlib.suppress(OSError):
            self.printer.write(message)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def keep_running(self) -> None:
        """Start it: at first at once, and after a pause when it has died."""
        if self.process and not self.is_running():
            self.handle_exit(self.process)
        if self.process is None and time.monotonic() >= self.start_again_at:
            self.start()

    def handle_exit(self, process: subprocess.Popen[bytes]) -> None:
        # A worker that was killed orphans its work horse, which would go on with a job that
        # another worker will start again.
        self.kill()
        if time.monotonic() - self.started_at >= STABLE_SECONDS:
            self.pause_seconds = FIRST_PAUSE_SECONDS
        pause = self.pause_seconds
        self.say(f"ended with status {process.returncode}; starts again in {pause} s")
        self.process = None
        self.start_again_at = time.monotonic() + pause
        self.pause_seconds = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def terminate(self) -> None:
        """Send SIGTERM to it and its process group."""
        if self.process and self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and all processes that it has started, orphans too."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in members_of_session(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Supervisor:
    def __init__(self, counts: dict[str, int], procfile: Path = PROCFILE) -> None:
        """`counts` is the number of each process of the Procfile to run."""
        commands = parse_procfile(procfile.read_text()).processes
        names = [
            (f"{name}.{index + 1}" if count > 1 else name, commands[name])
            for name, count in counts.items()
            for index in range(count)
        ]
        printer = Printer(width=max(len(name) for name, _ in names))
        self.supervised = [
            Supervised(name, command, printer, colour)
            for (name, command), colour in zip(names, get_colours(), strict=False)
        ]
        self.stop_requested = False

    def run(self) -> None:
        """Start all, keep them running until SIGINT, SIGTERM or SIGHUP, and end all."""
        self.handle_signals()
        try:
            while not self.stop_requested:
                for one in self.supervised:
                    one.keep_running()
                time.sleep(0.1)
        finally:
            self.stop()

    def handle_signals(self) -> None:
        signal.signal(signal.SIGINT, self.request_stop)
        signal.signal(signal.SIGTERM, self.request_stop)
        # Under nohup it is ignored, and stays so.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self.request_stop)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def stop(self) -> None:
        others = [one for one in self.supervised if one.name != QUEUE]
        # At the first SIGTERM an RQ worker finishes its job; at the second one it abandons the job
        # and kills the work horse.
        for seconds in GRACE_SECONDS:
            end(others, seconds)
        end([one for one in self.supervised if one.name == QUEUE], QUEUE_GRACE_SECONDS)
        for one in self.supervised:
            one.kill()


def end(supervised: list[Supervised], seconds: float) -> None:
    """Send SIGTERM to all of these and wait until they have ended, this many seconds at most."""
    for one in supervised:
        one.terminate()
    deadline = time.monotonic() + seconds
    while any(one.is_running() for one in supervised) and time.monotonic() < deadline:
        time.sleep(0.05)


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent is killed (Linux only)."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def members_of_session(leader: int) -> Iterator[int]:
    """Yields the ids of the processes that run in this session, found in /proc (Linux only)."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(int(entry.name)) == leader:
                yield int(entry.name)


def parse_counts(words: list[str]) -> dict[str, int]:
    """Returns the number of each process from `web worker=2`."""
    pairs = (word.partition("=") for word in words)
    return {name: int(count or 1) for name, _, count in pairs}


if __name__ == "__main__":
    if "MAKELEVEL" in os.environ:
        # The parent is the make of `make run`: when it is killed, the site must end, too.
        end_with_parent()
    Supervisor(parse_counts(sys.argv[1:])).run()

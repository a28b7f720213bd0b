"""What a process and those it started use: seconds and bytes."""

import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.01
"""Shorter than a photo takes, so that the moment of its full size in memory is not missed."""


@dataclass(slots=True)
class Usage:
    """What was used inside `metered`; zero until it is left."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """User and system time; of another program with all processes that it started and awaited."""
    others_cores: float = 0.0
    """How many cores the rest of the machine kept busy meanwhile, on average."""


@contextmanager
def metered(*, other_programs: bool = False) -> Iterator[Usage]:
    """Measure what is done inside: by this process, or by programs that it starts and awaits."""
    usage = Usage()
    started = _cpu_of_others()
    psutil.cpu_percent()  # from here on: the next call tells what was since this one
    wall, own = time.perf_counter(), time.process_time()
    yield usage
    usage.wall_seconds = time.perf_counter() - wall
    own, started = time.process_time() - own, _cpu_of_others() - started
    usage.cpu_seconds = started if other_programs else own
    busy_cores = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    usage.others_cores = max(0.0, busy_cores - (own + started) / usage.wall_seconds)


def cpu_milliseconds(work: Callable[[], object]) -> float:
    """User and system time of this process over one call, and of those that it started.

    What it takes to look at the others is not in it.
    """
    others = _cpu_of_others()
    own = time.process_time()
    work()
    own = time.process_time() - own
    return (own + _cpu_of_others() - others) * 1000


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process that runs, and of those of its own that have ended."""
    with suppress(psutil.NoSuchProcess, OSError):
        times = process.cpu_times()
        ended = float(times.children_user + times.children_system)
        if sys.platform != "linux":
            return ended + float(times.user + times.system)
        # Those are in ticks of 10 ms, and a picture takes few of them. A process's own clock has
        # nanoseconds; its id is made of the process's as clock_getcpuclockid(3) makes it.
        return ended + time.clock_gettime((~process.pid << 3) | 2)
    return 0.0


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_of_others() -> float:
    """Of all that this process has started, whether it has ended or runs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = psutil.Process().children(recursive=True)
    return usage.ru_utime + usage.ru_stime + sum(map(cpu_seconds, running))


def peak_memory_bytes(program: subprocess.Popen[bytes]) -> int:
    """The most that the program and its descendants held at once, watched until it ends.

    The sum of their resident sets (RSS), and the program's files in memory: the spools in which
    originals wait for their turn. What they share counts once for each of them, so this is more
    than what they take of the machine; but what other programs share with them, and when these
    end, does not move it, as it moves a proportional share (PSS).
    """
    root = psutil.Process(program.pid)
    peak = 0
    while program.poll() is None:
        peak = max(peak, _tree_bytes(root))
        time.sleep(SAMPLE_SECONDS)
    return peak


def _tree_bytes(root: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        processes = (root, *root.children(recursive=True))
        return sum(map(_resident_bytes, processes)) + _bytes_in_spools(root.pid)
    return 0


def _bytes_in_spools(pid: int) -> int:
    """Of the files without a name that a process has open (Linux): they are in no RSS."""
    total = 0
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                if str(file.readlink()).startswith("/memfd:"):
                    total += file.stat().st_blocks * 512
    return total


def _resident_bytes(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


@dataclass(slots=True)
class Peak:
    """The most that one process held."""

    resident_bytes: int = 0
    address_bytes: int = 0


@contextmanager
def peaks(root: psutil.Process) -> Iterator[dict[int, Peak]]:
    """What the process and each of its descendants hold at most meanwhile, by their ids."""
    found: dict[int, Peak] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            _note_peaks(root, found)
        _note_peaks(root, found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def _note_peaks(root: psutil.Process, found: dict[int, Peak]) -> None:
    with suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                peak = found.setdefault(process.pid, Peak())
                peak.resident_bytes = max(peak.resident_bytes, process.memory_info().rss)
                peak.address_bytes = max(peak.address_bytes, _address_bytes(process))


def _address_bytes(process: psutil.Process) -> int:
    """The most that it ever had, where the system knows; a moment is easily missed."""
    with suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        if match := re.search(r"^VmPeak:\s+(\d+) kB", status, re.MULTILINE):
            return int(match[1]) * 1024
    return int(process.memory_info().vms)

"""Measuring the time and memory of a process and its children."""

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
"""Shorter than rendering a photo, so that its peak is not missed."""


@dataclass(slots=True)
class Usage:
    """What was used inside `metered`; zero until the block ends."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """User and system time; of other programs including their children that have ended."""
    others_cores: float = 0.0
    """How many cores the rest of the machine kept busy meanwhile, on average."""


@contextmanager
def metered(*, other_programs: bool = False) -> Iterator[Usage]:
    """Measure the block: this process, or the programs that it starts and waits for."""
    usage = Usage()
    started = _cpu_of_others()
    psutil.cpu_percent()  # the next call measures from here
    wall, own = time.perf_counter(), time.process_time()
    yield usage
    usage.wall_seconds = time.perf_counter() - wall
    own, started = time.process_time() - own, _cpu_of_others() - started
    usage.cpu_seconds = started if other_programs else own
    busy_cores = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    usage.others_cores = max(0.0, busy_cores - (own + started) / usage.wall_seconds)


def cpu_milliseconds(work: Callable[[], object]) -> float:
    """Returns user and system time of one call, in this process and its children.

    Without the time that measuring the children takes.
    """
    others = _cpu_of_others()
    own = time.process_time()
    work()
    own = time.process_time() - own
    return (own + _cpu_of_others() - others) * 1000


def cpu_seconds(process: psutil.Process) -> float:
    """Returns user and system time of a running process, and of its children that have ended."""
    with suppress(psutil.NoSuchProcess, OSError):
        times = process.cpu_times()
        ended = float(times.children_user + times.children_system)
        if sys.platform != "linux":
            return ended + float(times.user + times.system)
        # Those are in ticks of 10 ms, of which an image takes few. The process's CPU clock has
        # nanoseconds; its id is made from the pid as in clock_getcpuclockid(3).
        return ended + time.clock_gettime((~process.pid << 3) | 2)
    return 0.0


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_of_others() -> float:
    """Of all children of this process, ended and running."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = psutil.Process().children(recursive=True)
    return usage.ru_utime + usage.ru_stime + sum(map(cpu_seconds, running))


def peak_memory_bytes(program: subprocess.Popen[bytes]) -> int:
    """Returns the peak memory of the program and its descendants, sampled until it ends.

    The sum of their resident sets (RSS), plus the program's files in memory: the spools of
    originals that wait for a render process. Shared pages count for each of them, so this is more
    than they use; but unlike the proportional share (PSS) it does not depend on other programs.
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
    """The size of a process's open anonymous files (Linux), which no RSS includes."""
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
    """The peak memory of one process."""

    resident_bytes: int = 0
    address_bytes: int = 0


@contextmanager
def peaks(root: psutil.Process) -> Iterator[dict[int, Peak]]:
    """Yields the peak memory of the process and each of its descendants, by pid."""
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
    """The peak that the system recorded, if it does: sampling may miss it."""
    with suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        if match := re.search(r"^VmPeak:\s+(\d+) kB", status, re.MULTILINE):
            return int(match[1]) * 1024
    return int(process.memory_info().vms)

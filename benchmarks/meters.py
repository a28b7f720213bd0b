"""What a process and those it started use: seconds and bytes."""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

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
    psutil.cpu_percent()  # from here on: the next call tells what was since this one
    wall, own, started = time.perf_counter(), time.process_time(), _cpu_of_ended_programs()
    yield usage
    usage.wall_seconds = time.perf_counter() - wall
    own, started = time.process_time() - own, _cpu_of_ended_programs() - started
    usage.cpu_seconds = started if other_programs else own
    busy_cores = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    usage.others_cores = max(0.0, busy_cores - (own + started) / usage.wall_seconds)


def cpu_milliseconds(work: Callable[[], object]) -> float:
    """User and system time of this process over one call."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1000


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_of_ended_programs() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_memory_bytes(program: subprocess.Popen[bytes]) -> int:
    """The most that the program and its descendants held at once, watched until it ends.

    The sum of their resident sets (RSS). What they share counts once for each of them, so this is
    more than what they take of the machine; but what other programs share with them, and when
    these end, does not move it, as it moves a proportional share (PSS).
    """
    root = psutil.Process(program.pid)
    peak = 0
    while program.poll() is None:
        peak = max(peak, _tree_bytes(root))
        time.sleep(SAMPLE_SECONDS)
    return peak


def _tree_bytes(root: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return sum(_resident_bytes(process) for process in (root, *root.children(recursive=True)))
    return 0


def _resident_bytes(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0

"""Processes of one command that work on a run together, on all cores."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from uuid import UUID

from django.db import connections

from thumbnails.models import Run
from thumbnails.models.runs import Progress
from thumbnails.upkeep import runs
from thumbnails.upkeep.labour import OwnProcess, give_up, name_next_process
from thumbnails.upkeep.outage import outlasting_outages

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
NAP_SECONDS = 0.02
DEATHS_AT_MOST = 10
"""So many processes may die, and no image be done, before the command gives up on the run."""
GRACE_SECONDS = 30
"""How long a process may take to finish its picture once it is told to stop."""


class Interrupted(Exception):
    """Somebody stopped the command; the run is paused and can be gone on with."""


class CrewLost(Exception):
    """The processes kept dying; the run is paused."""


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(run: Run, *, processes: int, on_progress: Callable[[Progress], None]) -> Progress:
    """Work on the run until it is over, and tell the progress every POLL_SECONDS.

    Each process does chunk after chunk, as a worker of the queue does. Ctrl-C or SIGTERM pauses
    the run, lets each process finish its picture and raises Interrupted. A process that dies is
    replaced, and its chunk is open again at once; where nothing but dying goes on the run is
    paused and CrewLost raised.
    """
    crew: dict[int, UUID] = {}
    deaths = done = 0
    with _interruptible():
        try:
            while outlasting_outages(partial(Run.objects.attend, run.pk)):
                deaths += _keep_busy(crew, run, processes)
                if deaths > DEATHS_AT_MOST:
                    raise CrewLost(f"{deaths} processes in a row died at {run}; it is paused.")
                progress = outlasting_outages(run.progress)
                if progress.done > done:
                    done, deaths = progress.done, 0
                on_progress(progress)
        except (Interrupted, CrewLost) as error:
            runs.pause_if_running(run, str(error))
            raise
        finally:
            _dismiss(crew)
            Run.objects.filter(pk=run.pk).update(attended_until=None)
            run.refresh_from_db()
    progress = run.progress()
    on_progress(progress)
    return progress


def _keep_busy(crew: dict[int, UUID], run: Run, processes: int) -> int:
    """Let so many processes work while there is work; gives the number that died since."""
    while len(crew) < processes and outlasting_outages(run.chunks.open().exists):
        pid, token = _fork(run)
        crew[pid] = token
    if not crew:
        # All is done, though whoever did the last of it may have died before saying so.
        outlasting_outages(partial(Run.objects.settle, run.pk))
    deaths = 0
    for pid, died in _wait(crew):
        token = crew.pop(pid)
        if died:
            deaths += 1
            logger.warning("A process at %s died; another takes its place", run)
            outlasting_outages(partial(give_up, token))
    return deaths


def _fork(run: Run) -> tuple[int, UUID]:
    token = name_next_process()
    connections.close_all()  # two processes must not talk through one connection
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os._exit(_be_one_of_the_crew(run))
    return pid, token


def _be_one_of_the_crew(run: Run) -> int:
    try:
        # Ctrl-C reaches the whole group; the parent decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = OwnProcess()
        runs.work_open_chunks(run.pk, token=process.token, labour=process)
        connections.close_all()
    except BaseException:
        logger.exception("A process at work on %s failed", run)
        return 1
    return 0


def _wait(crew: dict[int, UUID]) -> list[tuple[int, bool]]:
    """Those that ended, as soon as some have, or none after POLL_SECONDS."""
    until = time.monotonic() + POLL_SECONDS
    while not (ended := _reaped(crew)) and time.monotonic() < until:
        time.sleep(NAP_SECONDS)
    return ended


def _reaped(crew: dict[int, UUID]) -> list[tuple[int, bool]]:
    """The processes that ended since, and whether they died of something."""
    ended = []
    for pid in crew:
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            ended.append((pid, status != 0))
    return ended


def _dismiss(crew: dict[int, UUID]) -> None:
    """End the processes, gently at first; each finishes its picture and writes down its results."""
    for pid in crew:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + GRACE_SECONDS
    while crew and time.monotonic() < give_up_at:
        for pid, _ in _reaped(crew):
            crew.pop(pid)
        time.sleep(NAP_SECONDS)
    for pid, token in crew.items():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        give_up(token)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM raise Interrupted, once: the cleaning up is left in peace."""

    def interrupt(number: int, _: object) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(f"Stopped by {signal.Signals(number).name}.")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

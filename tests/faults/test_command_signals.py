"""A command that is asked to end at any moment: by Ctrl-C, by the system, by a lost terminal."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, StartCommand, wait_for_begun
from tests.faults.switchboard import Switchboard
from tests.processes import Session
from tests.waiting import is_alive, wait_for
from thumbnails.models import Run

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 100
DELAYS, AT_BEGIN, AT_WORK = 4, 2, 2
"""So many tries so long after its start, as soon as its run is there, and at the pictures."""
EARLIEST_SECONDS, LATEST_SECONDS = 0.2, 2.5
AT_WORK_SECONDS = 0.5
INTERRUPTED = 130
LEFT_SECONDS = 20.0

Moment = Callable[[Switchboard], None]
"""Returns when the command is to be told to end."""


def moments(chance: random.Random) -> list[Moment]:
    part = (LATEST_SECONDS - EARLIEST_SECONDS) / DELAYS
    delays = [EARLIEST_SECONDS + part * (number + chance.random()) for number in range(DELAYS)]
    at_work = [chance.random() * AT_WORK_SECONDS for _ in range(AT_WORK)]
    return [
        *(partial(after_a_while, seconds=seconds) for seconds in delays),
        *[as_its_run_begins] * AT_BEGIN,
        *(partial(while_it_renders, seconds=seconds) for seconds in at_work),
    ]


def after_a_while(_: Switchboard, *, seconds: float) -> None:
    time.sleep(seconds)


def as_its_run_begins(_: Switchboard) -> None:
    wait_for(Run.objects.running().exists, "the command's run", interval_seconds=0.001)


def while_it_renders(switchboard: Switchboard, *, seconds: float) -> None:
    wait_for_begun(switchboard, switchboard.begun() + 1)
    time.sleep(seconds)


def is_all_over(switchboard: Switchboard, session: Session) -> bool:
    """Nothing that the command started is left behind, whatever session it is in by now."""
    return not session.forked() and not any(
        is_of_test(process, switchboard) for process in psutil.process_iter()
    )


def is_of_test(process: psutil.Process, switchboard: Switchboard) -> bool:
    try:
        folder = process.environ().get(Switchboard.VARIABLE)
    except psutil.Error:
        return False
    return folder == str(switchboard.folder) and is_alive(process)


def tell(session: Session, number: signal.Signals) -> None:
    """As a terminal does, which tells all in the foreground, or as `kill` does."""
    if session.running:
        (os.kill if number == signal.SIGTERM else os.killpg)(session.pid, number)


def check_end(session: Session, number: signal.Signals, *, at_work: bool) -> None:
    """It ended as an interrupted program does, and no run is left with a lease.

    In its first moments, before it can do anything, the signal itself ends it.
    """
    states = {run.state for run in Run.objects.all()}
    assert states <= {Run.State.PAUSED, Run.State.DONE}, session.log
    allowed = {0, INTERRUPTED} if at_work else {0, INTERRUPTED, -number}
    assert session.wait() in allowed, session.log


def test_command__ends_in_good_order_whenever_it_is_told_to(
    make_assets: MakeAssets,
    command: StartCommand,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    chance: random.Random,
    say: Say,
) -> None:
    make_assets(ASSETS)
    switchboard.slow_down(0.1)
    ends = []
    signals = itertools.cycle([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    for wait_for_moment, number in zip(moments(chance), signals, strict=False):
        begun, began = switchboard.begun(), time.monotonic()
        regenerate = command("regenerate_thumbnails", "--force", "--workers", 2, cold=True)
        wait_for_moment(switchboard)
        rendered, seconds = switchboard.begun() - begun, time.monotonic() - began
        tell(regenerate, number)
        ends.append(f"{number.name} {seconds:.1f} s, {rendered} begun: {regenerate.wait()}")
        wait_for(
            partial(is_all_over, switchboard, regenerate),
            "the end of all that it started",
            LEFT_SECONDS,
        )
        check_end(regenerate, number, at_work=rendered > 0)
    say("; ".join(ends))
    switchboard.slow_down(0)
    last = command("regenerate_thumbnails", "--force")
    assert last.wait() == 0, last.log
    for run in Run.objects.all():
        accounts.check(run, thumbnail_dir)

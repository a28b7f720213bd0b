"""Workers on machines whose clocks differ."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import StartWorker
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, wait_for_begun
from tests.faults.switchboard import Switchboard
from tests.runs import start_run
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 4  # in chunks of one
GOES_ON_SECONDS = 40.0
"""Generous: a lease of 15 and a look every 5."""


def clock_wrong_by(seconds: int) -> dict[str, str]:
    """For the environment of a process."""
    return {"FAULTS_CLOCK_SECONDS": str(seconds)}


def test_worker_whose_clock_is_ahead__leaves_no_chunk_behind_for_longer(
    make_assets: MakeAssets,
    worker: StartWorker,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    make_assets(ASSETS)
    ahead = worker(cold=True, **clock_wrong_by(60))
    switchboard.hold()
    run = start_run()
    wait_for(lambda: switchboard.held() == 1, "the worker to be at a picture")
    ahead.kill()
    died_at = time.monotonic()
    switchboard.let_go()
    worker()
    wait_for_begun(switchboard, ASSETS + 1)
    seconds = time.monotonic() - died_at
    say(f"another worker went on after {seconds:.1f} s")
    assert seconds < GOES_ON_SECONDS
    accounts.wait_until_done(run)
    accounts.check(run, thumbnail_dir, writers_were_killed=True)

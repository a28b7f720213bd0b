"""The queue's server goes away, and comes back without its data."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, Supervise, wait_for_begun
from tests.faults.switchboard import Switchboard
from tests.runs import start_run
from tests.servers import QueueServer
from thumbnails.workers import ThumbnailWorker

pytestmark = pytest.mark.django_db(transaction=True)


ASSETS = 400


def test_queue__loses_its_data_twice(
    make_assets: MakeAssets,
    supervise: Supervise,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    """Once while workers are at work, and once until all of them wait for it."""
    make_assets(ASSETS)
    switchboard.slow_down(0.02)
    workers = supervise(2)
    before = {worker.pid for worker in workers.workers}
    run = start_run()
    wait_for_begun(switchboard, 50)
    queue_server.wipe()
    wait_for_begun(switchboard, 150)
    queue_server.kill()
    # Chunks that are claimed are worked on to their end without it.
    accounts.wait_until_idle(run)
    begun = switchboard.begun()
    assert begun < ASSETS
    queue_server.wipe()
    queue_server.start()
    back_at = time.monotonic()
    wait_for_begun(switchboard, begun + 1)
    say(f"the run went on {time.monotonic() - back_at:.1f} s after the queue was back")
    accounts.wait_until_done(run)
    assert workers.are_all_alive()
    assert {worker.pid for worker in workers.workers} == before
    assert run.progress().rendered == ASSETS
    accounts.check(run, thumbnail_dir)


def test_queue__is_looked_for_often_after_a_long_absence() -> None:
    assert ThumbnailWorker.max_connection_wait_time <= 10

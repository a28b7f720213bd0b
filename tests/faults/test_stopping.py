"""Runs that are cancelled or held back, and workers that are asked to end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Manage, StartWorker
from tests.faults import accounts
from tests.faults.conftest import (
    MakeAssets,
    Say,
    StartCommand,
    Supervise,
    wait_for_begun,
)
from tests.faults.switchboard import Step, Switchboard
from tests.runs import start_run
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.runs import execute

pytestmark = pytest.mark.django_db(transaction=True)


def test_sigterm__ends_a_worker_after_its_picture_and_another_finishes_the_chunk(
    make_assets: MakeAssets,
    worker: StartWorker,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    make_assets(320)  # in chunks of five
    switchboard.slow_down(0.5)
    leaving = worker()
    run = start_run()
    wait_for_begun(switchboard, 3)
    began, before = time.monotonic(), switchboard.begun()
    status = leaving.stop()
    say(f"ended after {time.monotonic() - began:.1f} s")
    assert status == 0, leaving.log
    assert switchboard.begun() <= before + 2
    # What it had begun it has finished, written down and counted.
    assert switchboard.begun() == switchboard.ended() == run.progress().rendered
    (left,) = run.chunks.filter(position__gt=0)
    assert left.finished_at is None
    assert left.lease_until is None
    switchboard.slow_down(0)
    worker()
    accounts.wait_until_done(run)
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == 320
    assert set(switchboard.times_rendered().values()) == {1}


@pytest.mark.parametrize("by", ["workers", "command"])
def test_cancel__stops_within_a_picture_and_resume_finishes_the_rest(
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    command: StartCommand,
    supervise: Supervise,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
) -> None:
    make_assets(128)
    switchboard.slow_down(0.01)
    processes = 2
    regenerate = None
    if by == "workers":
        supervise(processes)
        run = start_run()
    else:
        regenerate = command("regenerate_thumbnails", "--workers", processes)
        run = accounts.run_of_command()
    wait_for_begun(switchboard, 30)
    switchboard.hold()
    wait_for(lambda: switchboard.held() == processes, "each process to be at a picture")
    before = switchboard.begun()
    cancelled = manage("thumbnail_runs", "cancel", run.pk)
    assert cancelled.returncode == 0, cancelled.stderr
    time.sleep(execute.LOOK_SECONDS)  # so that they look after this picture
    switchboard.let_go()
    accounts.wait_until_idle(run)
    assert switchboard.begun() == switchboard.ended() == before
    assert run.state == Run.State.CANCELLED
    assert run.progress().rendered == ImageAsset.objects.fresh().count() == before
    if regenerate is not None:
        regenerate.wait()
        assert "cancelled" in regenerate.log

    switchboard.slow_down(0)
    resumed = manage("thumbnail_runs", "resume", run.pk)
    assert resumed.returncode == 0, resumed.stderr
    if regenerate is not None:
        supervise(processes)
    accounts.wait_until_done(run)
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == 128
    assert set(switchboard.times_rendered().values()) == {1}


@pytest.mark.parametrize("by", ["workers", "command"])
def test_rate__holds_over_all_who_work(
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    images, rate = 100, 50
    make_assets(images)
    if by == "workers":
        supervise(3)
        manage("regenerate_thumbnails", "--enqueue", "--rate", f"{rate}/s")
    else:
        manage("regenerate_thumbnails", "--workers", 3, "--rate", f"{rate}/s")
    run = Run.objects.get()
    accounts.wait_until_done(run)
    begun = [event.at for event in switchboard.events() if event.step == Step.BEGIN]
    # From the start of the run: the first image may be late, on a busy machine, and no other one
    # waits for it.
    seconds = max(begun) - run.created_at.timestamp()
    say(f"{images} images at {rate}/s began within {seconds:.2f} s")
    assert seconds >= (images - 1) / rate
    accounts.check(run, thumbnail_dir)

"""A run is not alone: another run, another worker with the same job, and visitors."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests import lifeline, pictures
from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import (
    MakeAssets,
    Say,
    StartCommand,
    Supervise,
    wait_for_begun,
)
from tests.faults.switchboard import Step, Switchboard
from tests.processes import COMMAND_SECONDS, ROOT
from tests.runs import start_run
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.models import Chunk, Run, State
from thumbnails.rendering import read_stamp
from thumbnails.storage.locks import render_lock
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import freshness, importing, pools
from thumbnails.upkeep.runs import control

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 128  # in chunks of two
COARSE_SECONDS = 0.05
"""By so much a file's time may lag behind the clock: Linux' own is a tick behind, 10 ms at most."""


@pytest.mark.parametrize("force", [False, True], ids=["default", "forced"])
def test_two_runs_at_once__do_no_double_work(
    *,
    force: bool,
    make_assets: MakeAssets,
    supervise: Supervise,
    command: StartCommand,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    """One by workers, one by the command with one process more: both get their share."""
    make_assets(ASSETS)
    switchboard.slow_down(0.005)
    supervise(2)
    switchboard.hold()
    by_workers = start_run(force=force)
    wait_for_begun(switchboard, 2)
    regenerate = command("regenerate_thumbnails", *["--force"] * force, "--workers", 3)
    # Two of its four threads wait for the workers' pictures, the others are ahead of them.
    wait_for_begun(switchboard, 4)
    by_command = accounts.run_of_command()
    switchboard.let_go()
    assert regenerate.wait() == 0, regenerate.log
    accounts.wait_until_done(by_workers)
    for run in (by_workers, by_command):
        accounts.check(run, thumbnail_dir)
        assert run.total == ASSETS
    shares = [run.progress().rendered for run in (by_workers, by_command)]
    say(f"rendered {shares[0]} and {shares[1]} of {ASSETS}")
    assert all(shares)
    times = switchboard.times_rendered()
    assert len(times) == ASSETS
    assert sum(shares) == times.total()
    # Both were there before the first picture was done.
    assert set(times.values()) == {1}


def test_forced_run__renders_anew_only_what_was_rendered_before_it_was_asked_for(
    make_assets: MakeAssets,
    supervise: Supervise,
    switchboard: Switchboard,
    thumbnail_dir: Path,
) -> None:
    make_assets(ASSETS)
    switchboard.slow_down(0.005)
    supervise(2)
    first = start_run(force=True)
    wait_for_begun(switchboard, 50)
    second = start_run(force=True)
    for run in (first, second):
        accounts.wait_until_done(run)
    for run in (first, second):
        accounts.check(run, thumbnail_dir)
    asked_at = second.created_at.timestamp()
    twice = {picture for picture, times in switchboard.times_rendered().items() if times > 1}
    early = {
        event.picture
        for event in switchboard.events()
        if event.step == Step.END and event.at < asked_at + COARSE_SECONDS
    }
    assert set(switchboard.times_rendered().values()) <= {1, 2}
    assert twice
    assert twice <= early


def test_visitor__never_sees_a_missing_or_partial_thumbnail(
    make_assets: MakeAssets, manage: Manage, thumbnail_dir: Path, say: Say
) -> None:
    make_assets(ASSETS)
    assert manage("regenerate_thumbnails").returncode == 0
    visitor = lifeline.start(
        [sys.executable, "-m", "tests.faults.reader", thumbnail_dir],
        cwd=ROOT,
        output=subprocess.PIPE,
    )
    assert visitor.stdout
    assert visitor.stdout.readline() == b"reading\n"
    forced = manage("regenerate_thumbnails", "--force", "--json")
    assert forced.returncode == 0, forced.stderr
    visitor.terminate()
    said, _ = visitor.communicate(timeout=COMMAND_SECONDS)
    assert visitor.returncode == 0, said.decode()
    say(f"{int(said):,} thumbnails read meanwhile")
    assert int(said) > ASSETS
    run = Run.objects.order_by("pk").reverse()[0]
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == ASSETS


def test_job_delivered_twice__counts_once(
    make_assets: MakeAssets,
    supervise: Supervise,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_assets(64)
    monkeypatch.setattr(control, "dispatch", lambda _: None)
    run = start_run()
    chunks = list(run.chunks.values_list("pk", flat=True))
    queue.enqueue([pk for pk in chunks for _ in range(2)], bulk=False)
    switchboard.hold()
    supervise(3)
    # The first two jobs mean the same chunk, and yet each worker has one of its own.
    wait_for_begun(switchboard, 3)
    assert Chunk.objects.filter(lease_until__isnull=False).count() == 3
    queue.enqueue(chunks[:3], bulk=True)
    switchboard.let_go()
    accounts.wait_until_done(run)
    queue.enqueue(chunks[:3], bulk=False)
    wait_for(lambda: not queue.enqueued_chunks(), "all jobs to be taken")
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == 64
    assert set(switchboard.times_rendered().values()) == {1}
    assert set(run.chunks.values_list("claims", flat=True)) == {1}


@pytest.mark.parametrize("kind", Run.Kind)
def test_worker_that_wakes_up__neither_deletes_nor_replaces_what_is_newer(
    kind: Run.Kind,
    make_assets: MakeAssets,
    supervise: Supervise,
    queue_server: QueueServer,
    originals_dir: Path,
    thumbnail_dir: Path,
) -> None:
    """It stood still for longer than its lease, just before it would have touched the file."""
    (asset,) = make_assets(1)
    freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
    with render_lock(asset.pk, patience_seconds=1):
        sleeper = supervise(1).workers[0]
        run = start_run(kind=kind, force=kind == Run.Kind.REGENERATE)
        claimed = run.chunks.exclude(lease_until=None)
        wait_for(claimed.exists, "the chunk to be claimed")
        time.sleep(1)  # and the worker to wait for the lock
        psutil.Process(sleeper.pid).suspend()
    supervise(1)
    accounts.wait_until_done(run)
    path = originals_dir / str(asset.original.name)
    path.write_bytes(pictures.jpeg(Image.new("RGB", (32, 24), "blue")))
    for _ in importing.import_files(importing.find_files([path])):
        pass
    freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
    psutil.Process(sleeper.pid).resume()
    assert sleeper.stop() == 0
    asset.refresh_from_db()
    assert asset.state == State.FRESH
    content = (thumbnail_dir / asset.thumbnail_path).read_bytes()
    assert read_stamp(content) == asset.fingerprint
    assert pictures.colour_of(pictures.opened(content).getpixel((9, 9))) == "blue"

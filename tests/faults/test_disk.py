"""The cache's disk fills up, or the originals' disk is gone, while a run goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from django.utils import timezone
from PIL import Image

from tests import pictures
from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import (
    MakeAssets,
    Say,
    Supervise,
    wait_for_begun,
)
from tests.faults.switchboard import Switchboard
from tests.runs import start_run
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.runs import execute, starting

pytestmark = pytest.mark.django_db(transaction=True)

DISK_BYTES = 20 * 1024 * 1024
BALLAST_BYTES = 14 * 1024 * 1024
"""Other things on the cache's disk, which a person can delete."""
ASSETS = 200  # whose thumbnails take about 8 MiB
WORKERS = 2


class Disk:
    """A folder with room for DISK_BYTES: by the system itself, or by a storage that counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.is_mounted = False
        self.settings = {"FAULTS_QUOTA_BYTES": str(DISK_BYTES)}
        """For the processes that are to use it."""

    def mount(self) -> None:
        """Make it a disk of its own, where that is allowed."""
        program = shutil.which("mount")
        options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.folder)]
        if program and subprocess.run([program, *options], check=False).returncode == 0:
            self.is_mounted = True
            self.settings = {}

    def unmount(self) -> None:
        if self.is_mounted:
            subprocess.run([shutil.which("umount") or "umount", self.folder], check=True)

    def fill(self) -> None:
        (self.folder / "ballast").write_bytes(bytes(BALLAST_BYTES))

    def make_room(self) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.unmount()


@pytest.fixture
def thumbnail_dir(disk: Disk) -> Path:
    return disk.folder / "thumbnails"


def grain() -> bytes:
    """A picture whose thumbnail is as large as they come."""
    pixels = np.random.default_rng(seed=1).integers(0, 255, (256, 256, 3), np.uint8)
    return pictures.jpeg(Image.fromarray(pixels))


def failed_ids(run: Run) -> dict[Reason, list[int]]:
    return {Reason(reason): ids for reason, ids in run.progress().failures.items()}


IN_A_ROW = {
    Reason.STORAGE_ERROR: execute.STORAGE_ERRORS_AT_MOST,
    Reason.SOURCE_MISSING: execute.MISSING_AT_MOST,
}


def check_stop(run: Run, thumbnail_dir: Path, reason: Reason, *, processes: int) -> None:
    """It stopped early: few are marked, and nothing half-done lies about."""
    failed = failed_ids(run)
    assert set(failed) <= {reason}
    # In a row that another process had begun when the run stopped.
    assert len(failed.get(reason, [])) <= (processes - 1) * IN_A_ROW[reason]
    assert 0 < run.progress().rendered < run.total
    # Those that are to be done again are among them.
    marked = set(ImageAsset.objects.failed().values_list("pk", flat=True))
    assert set(failed.get(reason, [])) <= marked
    assert len(marked) <= processes * IN_A_ROW[reason]
    files = accounts.files_of(thumbnail_dir)
    assert all(path.stat().st_size > 0 for path in files)
    assert not [path for path in files if path.suffix != ".jpg"]


def put_probation_forward(run: Run) -> None:
    """Let the workers try it again as soon as they look after the runs."""
    Run.objects.filter(pk=run.pk).update(resume_at=timezone.now())


def wait_until_tried_again_in_vain(run: Run) -> None:
    put_probation_forward(run)

    def is_paused_again() -> bool:
        run.refresh_from_db()
        paused = run.state == Run.State.PAUSED
        return paused and run.resume_at is not None and run.resume_at > timezone.now()

    wait_for(is_paused_again, f"{run} to be tried again")
    accounts.wait_until_idle(run)


def check_rest(run: Run, thumbnail_dir: Path) -> None:
    """The run is done; those few that it had marked are rendered by a retry."""
    accounts.wait_until_done(run)
    failed = failed_ids(run)
    accounts.check(run, thumbnail_dir, failed=failed)
    if failed:
        again = starting.retry(run, origin=Run.Origin.ADMIN)
        accounts.wait_until_done(again)
        accounts.check(again, thumbnail_dir)
    assert ImageAsset.objects.fresh().count() == run.total


def test_full_disk__the_run_pauses_and_goes_on_when_there_is_room(
    disk: Disk,
    make_assets: MakeAssets,
    supervise: Supervise,
    manage: Manage,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    disk.fill()
    make_assets(ASSETS, grain())
    supervise(WORKERS, **disk.settings)
    run = start_run()
    accounts.wait_until_done(run, Run.State.PAUSED)
    accounts.wait_until_idle(run)
    say(f"{run.progress().rendered} rendered, {run.progress().failed} failed; {run.pause_reason}")
    assert "storage errors in a row" in run.pause_reason
    assert "No space left on device" in run.pause_reason
    check_stop(run, thumbnail_dir, Reason.STORAGE_ERROR, processes=WORKERS)

    before = run.progress()
    wait_until_tried_again_in_vain(run)
    assert run.progress().rendered == before.rendered
    assert run.progress().failed <= before.failed

    disk.make_room()
    resumed = manage("thumbnail_runs", "resume", run.pk)
    assert resumed.returncode == 0, resumed.stderr
    check_rest(run, thumbnail_dir)


def test_full_disk__the_command_says_so_and_goes_on_when_there_is_room(
    disk: Disk,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    disk.mount()
    disk.fill()
    say("on a tmpfs" if disk.is_mounted else "by a quota: nothing may be mounted here")
    make_assets(ASSETS, grain())
    force = ["regenerate_thumbnails", "--force", "--workers", WORKERS]
    stopped = manage(*force, **disk.settings)
    run = Run.objects.get()
    assert run.state == Run.State.PAUSED
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    assert "No space left on device" in stopped.stdout + stopped.stderr
    check_stop(run, thumbnail_dir, Reason.STORAGE_ERROR, processes=WORKERS + 1)
    disk.make_room()
    supervise(1, **disk.settings)  # for the retry
    manage(*force, **disk.settings)
    assert Run.objects.count() == 1
    check_rest(run, thumbnail_dir)


def test_originals__are_gone_and_come_back(
    make_assets: MakeAssets,
    supervise: Supervise,
    switchboard: Switchboard,
    queue_server: QueueServer,
    originals_dir: Path,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    """As a disk that is unmounted, and leaves the folder that it was mounted on."""
    make_assets(320)
    switchboard.slow_down(0.005)
    supervise(WORKERS)
    run = start_run()
    wait_for_begun(switchboard, 100)
    aside = originals_dir.with_name("aside")
    originals_dir.rename(aside)
    originals_dir.mkdir()
    accounts.wait_until_done(run, Run.State.PAUSED)
    accounts.wait_until_idle(run)
    say(f"{run.progress().rendered} rendered, {run.progress().failed} failed; {run.pause_reason}")
    assert "originals in a row are missing" in run.pause_reason
    check_stop(run, thumbnail_dir, Reason.SOURCE_MISSING, processes=WORKERS)
    originals_dir.rmdir()
    aside.rename(originals_dir)
    put_probation_forward(run)
    check_rest(run, thumbnail_dir)

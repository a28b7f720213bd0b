"""The originals' disk is not mounted: something lies in the folder it is mounted on, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import timezone

from tests import pictures
from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise, wait_for_begun
from tests.faults.switchboard import Switchboard
from tests.servers import QueueServer
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 60
PROCESSES = 2


@pytest.mark.parametrize("by", ["workers", "command"])
def test_originals_away__the_run_pauses_and_all_thumbnails_are_served_on(
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    serve_site: ServeSite,
    supervise: Supervise,
    queue_server: QueueServer,
    originals_dir: Path,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    assets = make_assets(ASSETS)
    assert manage("regenerate_thumbnails").returncode == 0
    folder, aside = originals_dir / "folder", originals_dir.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    (folder / ".keep").touch()
    (originals_dir / ".keep").touch()

    force = ["regenerate_thumbnails", "--force", "--workers", PROCESSES]
    stopped = manage(*force)
    run = Run.objects.order_by("pk").reverse()[0]
    say(f"{run.state} with {run.progress().failed} failed: {run.pause_reason}")
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    assert run.state == Run.State.PAUSED
    assert "mounted" in run.pause_reason
    assert run.progress().failed == 0
    site = serve_site()
    statuses = [site.thumbnail(asset).status for asset in assets]
    assert statuses == [200] * ASSETS

    (folder / ".keep").unlink()
    folder.rmdir()
    aside.rename(folder)
    if by == "workers":
        supervise(1)
        assert manage("thumbnail_runs", "resume", run.pk).returncode == 0
    else:
        manage(*force)
        assert Run.objects.count() == 2
    accounts.wait_until_done(run)
    accounts.check(run, thumbnail_dir)
    assert manage("regenerate_thumbnails").returncode == 0
    assert ImageAsset.objects.fresh().count() == ASSETS


def test_root_away__the_run_goes_on_with_the_other_root(
    manage: Manage,
    serve_site: ServeSite,
    supervise: Supervise,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    tmp_path: Path,
    say: Say,
) -> None:
    roots = {name: tmp_path / "mnt" / name for name in ("nas", "photos")}
    settings = {"ORIGINALS_DIRS": ",".join(f"{name}={path}" for name, path in roots.items())}
    for path in roots.values():
        path.mkdir(parents=True)
        for number in range(ASSETS // 2):
            (path / f"{number:04}.jpg").write_bytes(pictures.jpeg(pictures.scene(32, 24)))
    assert manage("import_images", *roots.values(), **settings).returncode == 0
    switchboard.slow_down(0.05)
    supervise(PROCESSES, **settings)
    assert manage("regenerate_thumbnails", "--enqueue", **settings).returncode == 0
    run = Run.objects.get()
    wait_for_begun(switchboard, 10)
    roots["nas"].rename(aside := tmp_path / "aside")
    accounts.wait_until_done(run, Run.State.PAUSED)
    accounts.wait_until_idle(run)
    say(f"{run.progress().done} done: {run.pause_reason}")
    assert run.pause_reason.startswith("Root nas: ")
    assert run.progress().failed == 0
    assert ImageAsset.objects.fresh().filter(original__startswith="photos/").count() == ASSETS // 2
    site = serve_site(**settings)
    fresh = list(ImageAsset.objects.fresh())
    assert {site.thumbnail(asset).status for asset in fresh} == {200}
    missing = ImageAsset.objects.missing()[0]
    assert site.thumbnail(missing).status == 503

    aside.rename(roots["nas"])
    Run.objects.filter(pk=run.pk).update(resume_at=timezone.now())
    accounts.wait_until_done(run)
    accounts.check(run, thumbnail_dir)
    assert site.thumbnail(missing).status == 200

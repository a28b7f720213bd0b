"""The originals' disk is not mounted, though something lies in the folder it is mounted on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise
from tests.servers import QueueServer
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 60
MISSING_AT_MOST = 20
"""So many originals in a row may be gone before a run takes their disk for gone."""
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
    assert run.progress().failed <= MISSING_AT_MOST + PROCESSES
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
    # Those few that were marked before the run paused are tried again by the next one.
    marked = run.progress().failures.get(Reason.SOURCE_MISSING, [])
    accounts.check(run, thumbnail_dir, failed={Reason.SOURCE_MISSING: marked})
    assert manage("regenerate_thumbnails").returncode == 0
    assert ImageAsset.objects.fresh().count() == ASSETS

"""The originals' storage errs in its own words, or is asked for names that it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise, name_of
from tests.faults.distant import Distant
from tests.runs import start_run
from tests.servers import QueueServer
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run, State

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 20
STORAGE_ERRORS_AT_MOST = 5
PROCESSES = 2
PATIENCE_SECONDS = {"workers": 60.0, "command": 1.0}
"""A command has ended by then."""
WEIRD = ("/etc/hostname", "../outside.jpg", "folder", f"folder/{'x' * 300}.jpg")
"""Names that no original can have, though a row says so."""


@pytest.fixture
def distant(tmp_path: Path) -> Distant:
    return Distant(tmp_path / "errors")


def run_over_all(
    by: str, manage: Manage, supervise: Supervise, settings: dict[str, str]
) -> tuple[Run, int]:
    """A run over all that is not fresh, and the command's exit status, or 0 of workers."""
    if by == "command":
        done = manage("regenerate_thumbnails", "--workers", PROCESSES, **settings)
        assert Run.objects.exists(), done.stderr
        return Run.objects.order_by("pk").reverse()[0], done.returncode
    supervise(1, **settings)
    run = start_run(ImageAsset.objects.not_fresh())
    return run, 0


@pytest.mark.parametrize("by", ["workers", "command"])
def test_one_that_the_store_does_not_have__fails_alone(
    by: str,
    distant: Distant,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    serve_site: ServeSite,
    queue_server: QueueServer,
    thumbnail_dir: Path,
) -> None:
    missing = make_assets(ASSETS)[4]
    distant.err("404", name_of(missing))
    run, _ = run_over_all(by, manage, supervise, distant.settings)
    accounts.wait_until_done(run, patience_seconds=PATIENCE_SECONDS[by])
    accounts.check(run, thumbnail_dir, failed={Reason.SOURCE_MISSING: [missing.pk]})
    site = serve_site(**distant.settings)
    assert site.thumbnail(missing).status == 404


@pytest.mark.parametrize("code", ["down", "503"])
@pytest.mark.parametrize("by", ["workers", "command"])
def test_store_that_is_away__pauses_the_run_and_is_told_to_visitors(
    by: str,
    code: str,
    distant: Distant,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    serve_site: ServeSite,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    assets = make_assets(ASSETS)
    distant.err(code)
    run, status = run_over_all(by, manage, supervise, distant.settings)
    accounts.wait_until_done(run, Run.State.PAUSED, patience_seconds=PATIENCE_SECONDS[by])
    accounts.wait_until_idle(run)
    say(f"{run.progress().failed} failed; {run.pause_reason}")
    assert "storage errors" in run.pause_reason
    assert status == (1 if by == "command" else 0)
    failures = run.progress().failures
    assert set(failures) <= {Reason.STORAGE_ERROR}
    assert run.progress().failed <= PROCESSES * STORAGE_ERRORS_AT_MOST
    site = serve_site(**distant.settings)
    for asset in (assets[0], assets[-1]):
        answer = site.thumbnail(asset)
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) > 0

    distant.mend()
    assert site.thumbnail(assets[0]).status == 200
    if by == "command":
        supervise(1, **distant.settings)
    assert manage("thumbnail_runs", "resume", run.pk).returncode == 0
    accounts.wait_until_done(run)
    assert manage("regenerate_thumbnails", **distant.settings).returncode == 0
    assert ImageAsset.objects.fresh().count() == ASSETS


@pytest.mark.parametrize("by", ["workers", "command"])
def test_names_that_no_original_has__fail_alone(
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    serve_site: ServeSite,
    queue_server: QueueServer,
    say: Say,
) -> None:
    make_assets(ASSETS)
    weird = [ImageAsset.objects.create(original=name) for name in WEIRD]
    run, _ = run_over_all(by, manage, supervise, {})
    accounts.wait_until_done(run, patience_seconds=PATIENCE_SECONDS[by])
    say(f"{run.progress().failures}")
    failed = {asset_id for ids in run.progress().failures.values() for asset_id in ids}
    assert failed == {asset.pk for asset in weird}
    assert run.progress().rendered == ASSETS
    assert Reason.CRASHED not in run.progress().failures
    site = serve_site()
    for asset in ImageAsset.objects.filter(pk__in=failed):
        assert asset.state == State.FAILED
        assert site.thumbnail(asset).status in (404, 503)

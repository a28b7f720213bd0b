"""Originals in an object store that speaks S3, and goes away while they are rendered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, ServeSite, Supervise, wait_for_begun
from tests.faults.switchboard import Switchboard
from tests.objects import KEY, SECRET, ObjectServer
from tests.runs import start_run
from tests.servers import QueueServer
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 60


@pytest.fixture
def store() -> Iterator[ObjectServer]:
    with ObjectServer() as server:
        yield server


def test_store__that_goes_away_pauses_the_run_and_costs_no_picture(
    store: ObjectServer,
    make_assets: MakeAssets,
    originals_dir: Path,
    supervise: Supervise,
    serve_site: ServeSite,
    switchboard: Switchboard,
    manage: Manage,
    queue_server: QueueServer,
    thumbnail_dir: Path,
) -> None:
    assets = make_assets(ASSETS)
    store.put(originals_dir)
    shutil.rmtree(originals_dir)
    switchboard.slow_down(0.05)
    settings = {"FAULTS_S3_URL": store.url, "FAULTS_S3_KEY": KEY, "FAULTS_S3_SECRET": SECRET}
    supervise(1, **settings)
    site = serve_site(**settings)
    run = start_run()
    wait_for_begun(switchboard, 10)
    store.kill()
    accounts.wait_until_done(run, Run.State.PAUSED)
    accounts.wait_until_idle(run)
    assert "storage errors in a row" in run.pause_reason
    assert run.progress().failed == 0

    last = ImageAsset.objects.get(pk=assets[-1].pk)
    answer = site.thumbnail(last, last.fingerprint)
    assert answer.status == 503
    assert "retry-after" in answer.headers

    store.start()
    gone = ImageAsset.objects.create(original="folder/never.jpg", source_version="1-1")
    Run.objects.filter(pk=run.pk).update(resume_at=timezone.now())
    accounts.wait_until_done(run)
    assert run.progress().rendered + run.progress().fresh == ASSETS
    assert run.progress().failed == 0
    assert site.thumbnail(last, last.fingerprint).status == 200
    manage("regenerate_thumbnails", "--ids", gone.pk, **settings)
    gone.refresh_from_db()
    assert gone.thumbnail_error == Reason.SOURCE_MISSING

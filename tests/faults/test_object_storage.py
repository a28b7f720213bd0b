"""Originals in an object store that speaks S3, and goes away while they are rendered."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.utils import timezone

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, ServeSite, Supervise, wait_for_begun
from tests.faults.switchboard import Switchboard
from tests.runs import start_run
from tests.servers import QueueServer, Server
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

BUCKET = "originals"
ASSETS = 60
KEY, SECRET = "tests", "only-for-the-tests"


class ObjectServer(Server):
    """A small server that speaks S3 and keeps its objects in a folder."""

    name = "objects"

    def __init__(self) -> None:
        super().__init__()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        os.environ |= {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    @property
    def settings(self) -> dict[str, str]:
        """For the environment of a process that keeps its originals there."""
        return {"FAULTS_S3_URL": self.url, "FAULTS_S3_KEY": KEY, "FAULTS_S3_SECRET": SECRET}

    def take_over(self, folder: Path) -> None:
        """Move the files of a folder into the store."""
        self.client.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.rglob("*.jpg")):
            name = path.relative_to(folder).as_posix()
            self.client.upload_file(str(path), BUCKET, name)
        shutil.rmtree(folder)

    def _command(self) -> list[str | Path]:
        options: list[str | Path] = ["--data-dir", self.home / "data", "--host", "127.0.0.1"]
        return [Path(sys.executable).parent / "nanio", "serve", *options, "--port", str(self._port)]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


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
    store.take_over(originals_dir)
    switchboard.slow_down(0.05)
    supervise(1, **store.settings)
    site = serve_site(**store.settings)
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
    manage("regenerate_thumbnails", "--ids", gone.pk, **store.settings)
    gone.refresh_from_db()
    assert gone.thumbnail_error == Reason.SOURCE_MISSING

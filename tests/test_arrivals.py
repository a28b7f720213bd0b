"""What arrives is rendered at once, with THUMBNAIL_EAGER."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import django_rq
import pytest
from django.db import transaction
from django.test import Client
from pytest_django import Settings

from tests import pictures
from tests.conftest import Manage, RunCommand, StartWorker
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.models import Chunk, ImageAsset, Run, State
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import background, importing
from thumbnails.upkeep.runs import arrivals

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    """One that is eager and has sent nothing to the queue yet."""
    settings.THUMBNAIL_EAGER = True
    requests = background.Requests()
    monkeypatch.setattr(background, "_requests", requests)
    yield
    wait_for(lambda: not requests.is_sending, "the end of the thread that sends")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    found = tmp_path / "pictures"
    found.mkdir()
    for name in "abc":
        (found / f"{name}.jpg").write_bytes(pictures.jpeg())
    return found


def waiting() -> list[int]:
    """The assets of all jobs."""
    jobs = django_rq.get_queue(queue.NOW).jobs
    return [i for job in jobs if job.func_name == queue.REFRESH_ASSETS for i in job.args[0]]


def ids() -> list[int]:
    return list(ImageAsset.objects.order_by("pk").values_list("pk", flat=True))


def test_upload__is_rendered_at_once(staff_client: Client, queue_server: QueueServer) -> None:
    upload = BytesIO(pictures.jpeg())
    upload.name = "a.jpg"
    staff_client.post("/admin/thumbnails/imageasset/add/", {"original": upload})
    [asset_id] = ids()
    wait_for(lambda: waiting() == [asset_id], "the job")


def test_picture__is_rendered_after_the_commit_alone(
    queue_server: QueueServer, folder: Path, settings: Settings
) -> None:
    with transaction.atomic():
        importing.import_file(folder / "a.jpg")
        transaction.set_rollback(True)
    settings.THUMBNAIL_EAGER = False
    importing.import_file(folder / "b.jpg")
    settings.THUMBNAIL_EAGER = True
    with transaction.atomic():
        asset = importing.import_file(folder / "c.jpg")
    wait_for(lambda: waiting() == [asset.pk], "the job")


def test_process__that_ends_at_once_has_sent_its_request(
    manage: Manage, worker: StartWorker, queue_server: QueueServer, folder: Path
) -> None:
    code = (
        "from thumbnails.upkeep.images.importing import import_file; from pathlib import Path; "
        f"import_file(Path({str(folder / 'a.jpg')!r}))"
    )
    assert manage("shell", "--no-imports", "-c", code, THUMBNAIL_EAGER="on").returncode == 0
    assert waiting() == ids()
    worker()
    wait_for(lambda: ImageAsset.objects.fresh().exists(), "the thumbnail")


def test_import__of_a_few_is_a_job(
    queue_server: QueueServer, folder: Path, run_command: RunCommand
) -> None:
    assert run_command("import_images", folder).returncode == 0
    assert waiting() == ids()
    queue.end_refresh(ids())
    queue_server.flush()
    (folder / "b.jpg").write_bytes(pictures.jpeg(pictures.scene(300, 500)))
    assert run_command("import_images", folder).returncode == 0
    assert waiting() == [ImageAsset.objects.get(height=500).pk]  # and not what was known
    assert not Run.objects.exists()


def test_import__of_many_is_a_run_of_what_is_new(
    queue_server: QueueServer,
    folder: Path,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    importing.import_file(folder / "a.jpg")
    monkeypatch.setattr(arrivals, "AT_ONCE", 1)
    monkeypatch.setattr(arrivals, "BATCH", 1)
    done = run_command("import_images", folder)
    run = Run.objects.get()
    assert done.stderr.endswith(f"{run} renders the new images.\n")
    assert (run.total, run.state) == (2, Run.State.RUNNING)
    assert [i for chunk in Chunk.objects.all() for i in chunk.asset_ids] == ids()[1:]
    assert len(waiting()) <= 2


def test_import__loses_nothing_without_a_queue(
    queue_server: QueueServer,
    folder: Path,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(arrivals, "AT_ONCE", 2)
    queue_server.kill()
    with caplog.at_level(logging.WARNING):
        assert run_command("import_images", folder).returncode == 0
    assert "is saved, but the queue cannot be reached" in caplog.text
    assert Run.objects.get().state == Run.State.RUNNING  # workers find it
    assert {asset.state for asset in ImageAsset.objects.all()} == {State.MISSING}


def test_table__that_is_only_tried_starts_nothing(
    queue_server: QueueServer, originals_dir: Path, run_command: RunCommand, tmp_path: Path
) -> None:
    (originals_dir / "a.jpg").write_bytes(pictures.jpeg())
    table = tmp_path / "images.csv"
    table.write_text("id,path\n7,a.jpg\n", encoding="utf-8")
    for option, expected in (("--dry-run", []), ("--json", [7])):
        assert run_command("import_images", "--from-csv", table, option).returncode == 0
        assert waiting() == expected

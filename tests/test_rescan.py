"""Originals that changed or went behind the site's back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset, RunCommand
from thumbnails.exceptions import StorageFailure
from thumbnails.models import ImageAsset, Run, State
from thumbnails.storage import originals
from thumbnails.upkeep.images import rescan as module
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.images.rescan import record_gone, rescan

pytestmark = pytest.mark.django_db


@pytest.fixture
def served(make_asset: MakeAsset) -> list[ImageAsset]:
    """Images with fresh thumbnails, `0.jpg` and so on."""
    assets = [make_asset(name=f"{number}.jpg") for number in range(8)]
    for asset in assets:
        serving.serve(asset)
        asset.refresh_from_db()
    return assets


def change(asset: ImageAsset, originals_dir: Path, content: bytes) -> None:
    (originals_dir / str(asset.original.name)).write_bytes(content)


def remove(asset: ImageAsset, originals_dir: Path) -> None:
    (originals_dir / str(asset.original.name)).unlink()


def test_rescan__of_true_originals_reads_none(
    served: list[ImageAsset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise AssertionError

    monkeypatch.setattr(originals, "read", fail)
    found = rescan(ImageAsset.objects.all(), save=True)
    assert (found.looked_at, found.changed, found.gone, found.errors) == (8, [], [], [])
    assert ImageAsset.objects.fresh().count() == 8


def test_changed__is_stale_from_then_on(
    served: list[ImageAsset], originals_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    asset = served[4]
    change(asset, originals_dir, pictures.png(pictures.scene(30, 90)))
    found = rescan(ImageAsset.objects.all(), save=False)
    assert (found.looked_at, found.changed) == (8, [asset.pk])
    assert ImageAsset.objects.fresh().count() == 8
    told: list[int] = []
    rescan(ImageAsset.objects.all(), save=True, on_progress=told.append)
    assert told == [3, 6, 8]
    asset.refresh_from_db()
    assert asset.state == State.STALE
    assert (asset.width, asset.height, asset.format) == (30, 90, "PNG")
    assert asset.thumbnail_path
    assert ImageAsset.objects.fresh().count() == 7
    assert rescan(ImageAsset.objects.all(), save=True).changed == []


def test_changed__into_what_cannot_be_read_is_stale_too(
    served: list[ImageAsset], originals_dir: Path, settings: Settings
) -> None:
    """The render finds the reason."""
    broken, large = served[:2]
    change(broken, originals_dir, b"no picture")
    change(large, originals_dir, pictures.jpeg() + bytes(2**20))
    settings.THUMBNAIL_MAX_BYTES = 2**20
    found = rescan(ImageAsset.objects.all(), save=True)
    assert found.changed == [broken.pk, large.pk]
    for asset in (broken, large):
        asset.refresh_from_db()
        assert asset.state == State.STALE


def test_gone__is_recorded_when_that_is_asked_for_and_keeps_its_thumbnail(
    served: list[ImageAsset], originals_dir: Path
) -> None:
    asset = served[0]
    remove(asset, originals_dir)
    found = rescan(ImageAsset.objects.all(), save=True)
    assert found.gone == [asset.pk]
    assert found.problems() == {}
    assert ImageAsset.objects.fresh().count() == 8
    record_gone(found)
    asset.refresh_from_db()
    assert (asset.state, asset.thumbnail_error) == (State.FAILED, "source_missing")
    assert "0.jpg is gone" in asset.thumbnail_error_detail
    assert asset.thumbnail_history[0]["reason"] == "source_missing"
    assert serving.serve(asset).content


def test_gone__that_came_back_is_fresh_again(served: list[ImageAsset], originals_dir: Path) -> None:
    asset = served[0]
    path = originals_dir / str(asset.original.name)
    path.rename(originals_dir / "elsewhere")
    record_gone(rescan(ImageAsset.objects.all(), save=True))
    (originals_dir / "elsewhere").rename(path)
    serving.render_now(asset.pk)
    asset.refresh_from_db()
    assert asset.state == State.FRESH


@pytest.mark.parametrize(
    ("gone", "looked_at", "allow_share", "is_refused"),
    [
        (19, 19, 0.0, False),
        (20, 20, 0.1, True),
        (20, 200, 0.1, False),
        (21, 200, 0.1, True),
        (21, 200, 0.11, False),
        (200, 200, 1.0, False),
    ],
)
def test_problem__where_many_are_gone(
    gone: int, looked_at: int, allow_share: float, is_refused: bool
) -> None:
    found = module.RootRescan(looked_at=looked_at, gone=list(range(gone)))
    said = found.problem("", allow_share)
    assert bool(said) == is_refused
    assert not said or f"{gone} of {looked_at} originals are gone" in said


def test_storage_away__is_not_asked_about_each(
    served: list[ImageAsset], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(name: str) -> str:
        asked.append(name)
        raise StorageFailure("Input/output error.")

    monkeypatch.setattr(originals, "source_version", fail)
    found = rescan(ImageAsset.objects.all(), save=True)
    assert len(asked) == len(found.errors) == module.ERRORS_AT_MOST
    assert (found.changed, found.gone) == ([], [])


# --- regenerate_thumbnails --rescan ---------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_command__finds_and_renders_what_changed(
    served: list[ImageAsset], originals_dir: Path, run_command: RunCommand
) -> None:
    change(served[0], originals_dir, pictures.png(pictures.scene(30, 90)))
    unaware = run_command("regenerate_thumbnails")
    assert "Nothing to do" in unaware.stdout
    done = run_command("regenerate_thumbnails", "--rescan")
    assert done.returncode == 0, done.stderr
    assert "8 originals: 1 changed, 0 gone." in done.stderr
    assert "1 rendered" in done.stdout
    served[0].refresh_from_db()
    assert (served[0].state, served[0].thumbnail_width) == (State.FRESH, 30)


@pytest.mark.django_db(transaction=True)
def test_command__starts_nothing_where_a_disk_seems_to_be_away(
    make_asset: MakeAsset, originals_dir: Path, run_command: RunCommand
) -> None:
    for _ in range(module.FEW):
        make_asset()
    originals_dir.rename(originals_dir.with_name("elsewhere"))
    originals_dir.mkdir()
    done = run_command("regenerate_thumbnails", "--rescan")
    assert done.returncode == 1
    assert "20 of 20 originals are gone: is a disk not mounted?" in done.stderr
    assert not Run.objects.exists()
    assert ImageAsset.objects.missing().count() == 20

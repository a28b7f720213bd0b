"""The audit: what it finds, what it mends, and what it refuses to delete."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from PIL import Image

from tests import pictures
from tests.conftest import MakeAsset, Manage, RunCommand
from thumbnails.exceptions import StorageFailure
from thumbnails.models import ImageAsset, State
from thumbnails.models.results import Result, save_results
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.thumbnails import ThumbnailFile
from thumbnails.upkeep.images import adoption, freshness, pools, serving
from thumbnails.upkeep.reports.audit import Finding, Report, audit
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db


@pytest.fixture
def served(make_asset: MakeAsset) -> list[ImageAsset]:
    """Twenty assets with fresh thumbnails: one of them is less than a tenth."""
    assets = [make_asset() for _ in range(20)]
    for asset in assets:
        serving.serve(asset)
    return assets


def file_of(asset: ImageAsset, thumbnail_dir: Path) -> Path:
    return thumbnail_dir / asset.thumbnail_name


def found(report: Report) -> dict[Finding, int]:
    return {finding: number for finding, number in report.found.items() if number}


def orphaned(asset: ImageAsset) -> None:
    """Take the row away as a restored database would: no signal is sent."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM thumbnails_imageasset WHERE id = %s", [asset.pk])


def test_audit__of_a_true_cache_finds_nothing(served: list[ImageAsset]) -> None:
    report = audit(deep=True)
    assert report.files == 20
    assert found(report) == {}
    assert report.is_clean


def test_orphan__is_deleted_by_fix_only(served: list[ImageAsset], thumbnail_dir: Path) -> None:
    orphaned(served[0])
    file = file_of(served[0], thumbnail_dir)
    report = audit()
    assert found(report) == {Finding.ORPHAN: 1}
    assert not report.is_clean
    assert file.exists()
    report = audit(fix=True)
    assert report.is_clean
    assert not file.exists()
    assert found(audit()) == {}


def test_missing__is_marked_for_the_next_regeneration(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    file_of(served[0], thumbnail_dir).unlink()
    assert found(audit()) == {Finding.MISSING: 1}
    assert audit(fix=True).is_clean
    served[0].refresh_from_db()
    assert served[0].state == State.MISSING


@pytest.mark.parametrize("kept_bytes", [0, 10, 300])
def test_damaged__is_deleted_and_marked(
    served: list[ImageAsset], thumbnail_dir: Path, kept_bytes: int
) -> None:
    os.truncate(file_of(served[0], thumbnail_dir), kept_bytes)
    assert found(audit()) == {Finding.DAMAGED: 1}
    assert audit(fix=True).is_clean
    served[0].refresh_from_db()
    assert served[0].state == State.MISSING
    assert found(audit()) == {}


def test_damaged__inside_is_found_by_deep(served: list[ImageAsset], thumbnail_dir: Path) -> None:
    file = file_of(served[0], thumbnail_dir)
    content = bytearray(file.read_bytes())
    start_of_frame = content.index(b"\xff\xc0")
    content[start_of_frame + 5 : start_of_frame + 9] = b"\x00\x00\x00\x00"
    file.write_bytes(content)
    assert found(audit()) == {}
    assert found(audit(deep=True)) == {Finding.DAMAGED: 1}


def test_mismatched__restored_backup_is_rendered_anew(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    backup = file_of(served[1], thumbnail_dir).read_bytes()
    stamp_of_old_recipe = backup.replace(served[1].fingerprint.encode(), b"0" * 16)
    file_of(served[0], thumbnail_dir).write_bytes(stamp_of_old_recipe)
    assert found(audit()) == {Finding.MISMATCHED: 1}
    assert audit(fix=True).is_clean
    served[0].refresh_from_db()
    assert served[0].state == State.MISSING
    serving.serve(served[0])
    assert found(audit()) == {}


def test_unstamped__is_told_and_never_touched(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    """The thumbnail of another program, or of a version before the stamps."""
    file = file_of(served[0], thumbnail_dir)
    file.write_bytes(pictures.jpeg())
    report = audit(fix=True, deep=True)
    assert found(report) == {Finding.UNSTAMPED: 1}
    assert report.is_clean
    assert file.read_bytes() == pictures.jpeg()
    served[0].refresh_from_db()
    assert served[0].thumbnail_path


def test_adopt__records_the_pictures_of_another_program(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    """One in the place of a thumbnail made here, and one of an image that had none."""
    old = served[:2]
    ImageAsset.objects.filter(pk=old[1].pk).update(thumbnail_path="", thumbnail_recipe="")
    for asset in old:
        file_of(asset, thumbnail_dir).write_bytes(pictures.jpeg(Image.new("RGB", (120, 80))))
        os.utime(file_of(asset, thumbnail_dir), (1_500_000_000, 1_500_000_000))
    report = audit(adopt=True)
    assert report.adopted == 2
    assert report.is_clean
    unstamped = ImageAsset.objects.filter(thumbnail_recipe="unstamped").order_by("pk")
    assert list(unstamped) == old
    for asset in unstamped:
        assert asset.state == State.STALE
        assert asset.thumbnail_path == asset.thumbnail_name
        assert (asset.thumbnail_width, asset.thumbnail_height) == (120, 80)
        assert asset.thumbnail_bytes == file_of(asset, thumbnail_dir).stat().st_size
        assert asset.thumbnail_generated_at == datetime(2017, 7, 14, 2, 40, tzinfo=UTC)
    assert found(audit(adopt=True)) == {}
    (again,) = Selection(recipes=("unstamped",), ids=(old[0].pk,)).assets()
    serving.serve(again)
    assert found(audit(adopt=True)) == {}


def test_adopt__leaves_what_is_rendered_meanwhile(
    served: list[ImageAsset], thumbnail_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(served[0], thumbnail_dir).write_bytes(pictures.jpeg())

    def rendered_in_between(asset: ImageAsset, file: ThumbnailFile, _: Any) -> Result:
        result = adoption.adopted(asset, file, {})
        serving.serve(asset)
        return result

    monkeypatch.setattr("thumbnails.upkeep.reports.audit.adopted", rendered_in_between)
    assert audit(adopt=True).adopted == 0
    served[0].refresh_from_db()
    assert served[0].state == State.FRESH


def test_unrecorded__is_told_and_left_to_the_next_render(served: list[ImageAsset]) -> None:
    ImageAsset.objects.filter(pk=served[0].pk).update(thumbnail_path="")
    report = audit(fix=True)
    assert found(report) == {Finding.UNRECORDED: 1}
    assert report.is_clean


def test_leftover__of_a_dead_writer_is_deleted(
    served: list[ImageAsset], thumbnail_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnails.upkeep.reports.audit.TEMPORARY_SECONDS", 0.1)
    file = file_of(served[0], thumbnail_dir)
    left = file.with_name(f".{file.name}.0123456789abcdef.tmp")
    left.write_bytes(b"half")
    assert found(audit()) == {Finding.LEFTOVER: 1}
    assert audit(fix=True).is_clean
    assert not left.exists()


def test_foreign__is_told_and_never_touched(
    served: list[ImageAsset], thumbnail_dir: Path, tmp_path: Path
) -> None:
    shard = file_of(served[0], thumbnail_dir).parent
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jpg").write_text("mine")
    free_shard = next(
        thumbnail_dir / name
        for name in (f"{n:02x}" for n in range(256))
        if not (thumbnail_dir / name).exists()
    )
    free_shard.symlink_to(outside)
    mine = [
        shard / "notes.txt",
        shard / "0001.jpg",
        shard / "12345.jpg.bak",
        shard / ".12345.jpg.tmp",
        thumbnail_dir / "README",
    ]
    for path in mine:
        path.write_text("mine")
    (shard / "999999999.jpg").symlink_to(outside / "1.jpg")
    (shard / "folder.jpg").mkdir()
    report = audit(fix=True)
    assert found(report) == {Finding.FOREIGN: 8}
    assert report.is_clean
    assert all(path.read_text() == "mine" for path in [*mine, outside / "1.jpg"])
    assert free_shard.is_symlink()


# --- what it refuses ------------------------------------------------------------------------------


def test_fix__refuses_without_any_asset(served: list[ImageAsset], thumbnail_dir: Path) -> None:
    for asset in served:
        orphaned(asset)
    report = audit(fix=True, allow_share=1.0)
    assert "no images at all" in report.refusal
    assert not report.is_clean
    assert len(list(thumbnail_dir.rglob("*.jpg"))) == 20


def test_fix__refuses_more_than_a_tenth_unless_allowed(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    for asset in served[:3]:
        orphaned(asset)
    report = audit(fix=True)
    assert "Nothing was deleted: 3 of 20 files would go" in report.refusal
    assert len(list(thumbnail_dir.rglob("*.jpg"))) == 20
    report = audit(fix=True, allow_share=0.15)
    assert report.is_clean
    assert len(list(thumbnail_dir.rglob("*.jpg"))) == 17


def test_fix__refuses_to_clear_more_than_a_tenth_unless_allowed(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    """A disk that is not mounted looks like so many thumbnails that are gone."""
    orphaned(served[0])
    for asset in served[1:4]:
        file_of(asset, thumbnail_dir).unlink()
    report = audit(fix=True)
    assert "Nothing was cleared: 3 of 19 thumbnails" in report.refusal
    assert not report.is_clean
    assert ImageAsset.objects.fresh().count() == 19
    assert file_of(served[0], thumbnail_dir).exists()  # nothing at all is mended then
    told = re.search(r"--allow-share ([0-9.]+)", report.refusal)
    assert told is not None
    assert audit(fix=True, allow_share=float(told[1])).is_clean
    assert ImageAsset.objects.missing().count() == 3


# --- originals ------------------------------------------------------------------------------------


def original_of(asset: ImageAsset, originals_dir: Path) -> Path:
    return originals_dir / str(asset.original.name)


def test_originals__are_looked_at_where_that_is_asked_for(
    served: list[ImageAsset], originals_dir: Path, thumbnail_dir: Path
) -> None:
    changed, gone = served[:2]
    original_of(changed, originals_dir).write_bytes(pictures.png(pictures.scene(30, 90)))
    original_of(gone, originals_dir).unlink()
    assert found(audit(fix=True)) == {}
    report = audit(with_originals=True)
    assert found(report) == {Finding.CHANGED: 1, Finding.GONE: 1}
    assert not report.is_clean
    assert ImageAsset.objects.fresh().count() == 20
    assert audit(with_originals=True, fix=True).is_clean
    changed.refresh_from_db()
    assert (changed.state, changed.width, changed.height) == (State.STALE, 30, 90)
    gone.refresh_from_db()
    assert (gone.state, gone.thumbnail_error) == (State.FAILED, "source_missing")
    # Its thumbnail is the last picture of it that there is.
    assert file_of(gone, thumbnail_dir).exists()
    assert serving.serve(gone).content == file_of(gone, thumbnail_dir).read_bytes()


def test_originals__of_a_lost_mount_are_not_called_gone(
    served: list[ImageAsset], originals_dir: Path
) -> None:
    originals_dir.rename(originals_dir.with_name("elsewhere"))
    report = audit(with_originals=True, fix=True)
    assert "20 of 20 originals are gone: is a disk not mounted?" in report.refusal
    assert not report.is_clean
    assert not ImageAsset.objects.failed().exists()


def test_fix__refuses_where_the_storage_errs(
    served: list[ImageAsset], thumbnail_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphaned(served[0])
    survey = cache.survey
    shards = {asset.thumbnail_name[:2] for asset in served}
    bad_shard = (shards - {served[0].thumbnail_name[:2]}).pop()

    def failing(shard: str) -> object:
        if shard == bad_shard:
            raise StorageFailure("Input/output error")
        return survey(shard)

    monkeypatch.setattr(cache, "survey", failing)
    report = audit(fix=True)
    assert report.errors == ["Input/output error"]
    assert report.refusal == "Nothing was deleted: part of the cache could not be read."
    assert file_of(served[0], thumbnail_dir).exists()


@pytest.mark.django_db(transaction=True)
def test_command__reports_and_exits_by_what_is_left(
    run_command: RunCommand, served: list[ImageAsset]
) -> None:
    assert run_command("audit_thumbnails").returncode == 0
    orphaned(served[0])
    told = run_command("audit_thumbnails", "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["found"]["orphan"] == 1
    assert "Problems remain." in told.stderr
    mended = run_command("audit_thumbnails", "--fix")
    assert mended.returncode == 0, mended.stderr
    assert "1 thumbnails without an image" in mended.stdout
    ImageAsset.objects.filter(pk=served[1].pk).update(source_version="0-0")
    looked = run_command("audit_thumbnails", "--originals")
    assert looked.returncode == 1
    assert "1 images whose original has changed" in looked.stdout
    wrong = run_command("audit_thumbnails", "--allow-share", "2")
    assert wrong.returncode == 2
    assert "is not a share" in wrong.stderr


@pytest.mark.django_db(transaction=True)
def test_command__ends_with_its_status_as_a_process(
    manage: Manage, served: list[ImageAsset]
) -> None:
    orphaned(served[0])
    done = manage("audit_thumbnails")
    assert done.returncode == 1
    assert "Problems remain." in done.stderr


# --- deleting assets ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_deleted_asset__takes_its_thumbnail_along_after_commit(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    files = [file_of(asset, thumbnail_dir) for asset in served]
    with transaction.atomic():
        served[0].delete()
        assert files[0].exists()
    assert not files[0].exists()
    ImageAsset.objects.filter(pk__in=[asset.pk for asset in served[1:4]]).delete()
    assert [file.exists() for file in files[:5]] == [False, False, False, False, True]


@pytest.mark.django_db(transaction=True)
def test_deleted_asset__rolled_back_keeps_its_thumbnail(
    served: list[ImageAsset], thumbnail_dir: Path
) -> None:
    file = file_of(served[0], thumbnail_dir)
    with transaction.atomic():
        served[0].delete()
        transaction.set_rollback(True)
    assert file.exists()


def test_deleted_asset__while_it_was_rendered_leaves_no_orphan(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset, other = make_asset(), make_asset(pictures.png())
    pool = pools.worker_pool(large=False)
    results = [freshness.refresh(asset, pool), freshness.refresh(other, pool)]
    orphaned(asset)
    assert save_results(results) == [asset.pk]
    assert freshness.refresh_now(asset.pk, pool) is None
    assert not file_of(asset, thumbnail_dir).exists()
    assert file_of(other, thumbnail_dir).exists()
    assert found(audit()) == {}

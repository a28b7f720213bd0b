"""What a run's report says of each image, also of those that have changed since."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from tests.conftest import MakeAsset
from tests.runs import start_here, work
from thumbnails.exceptions import Reason
from thumbnails.models import Chunk, ImageAsset, Outcome, Run
from thumbnails.models.outcomes import CODES
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import freshness, pools
from thumbnails.upkeep.images.acceptance import accept_failures
from thumbnails.upkeep.reports import audit, run_report
from thumbnails.upkeep.reports.run_report import Filter, ReportRow
from thumbnails.upkeep.runs import control

pytestmark = pytest.mark.django_db


def done(kind: Run.Kind = Run.Kind.REGENERATE, *, force: bool = False) -> Run:
    work(run := start_here(kind, force=force))
    return run


def rows_of(run: Run, **how: Any) -> dict[str, ReportRow]:
    """By the names of the originals without extensions."""
    return {Path(row.name).stem: row for row in run_report.rows(run, **how)}


def render(asset: ImageAsset) -> str:
    """Render it as a request does. Returns the thumbnail's fingerprint."""
    freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
    asset.refresh_from_db()
    return asset.recorded_fingerprint or ""


def fingerprints(row: ReportRow) -> tuple[str, str]:
    return row.old_fingerprint, row.new_fingerprint


# --- what became of each image --------------------------------------------------------------------


def test_rows__say_what_became_of_each_image(
    make_asset: MakeAsset, settings: Settings, originals_dir: Path
) -> None:
    fresh, older = make_asset(name="fresh.jpg"), make_asset(name="older.jpg")
    lost = make_asset(name="lost.jpg")
    settings.THUMBNAIL_QUALITY = 60
    was = {asset.pk: render(asset) for asset in (older, lost)}
    settings.THUMBNAIL_QUALITY = 85
    (originals_dir / "lost.jpg").unlink()
    new, bad = make_asset(name="new.jpg"), make_asset(name="bad.jpg")
    (originals_dir / "bad.jpg").write_bytes(b"no picture")
    now = render(fresh)
    run = done()

    rows = rows_of(run)
    assert {name: (row.outcome, row.reason, row.state) for name, row in rows.items()} == {
        "fresh": ("fresh", "", "fresh"),
        "older": ("rendered", "", "fresh"),
        "lost": ("failed", "source_missing", "failed"),
        "new": ("rendered", "", "fresh"),
        "bad": ("failed", "unsupported", "failed"),
    }
    older.refresh_from_db()
    new.refresh_from_db()
    assert fingerprints(rows["fresh"]) == (now, now)
    assert fingerprints(rows["older"]) == (was[older.pk], older.fingerprint)
    assert fingerprints(rows["lost"]) == (was[lost.pk], was[lost.pk])
    assert fingerprints(rows["new"]) == ("", new.fingerprint)
    assert fingerprints(rows["bad"]) == ("", "")
    assert rows["new"].url == new.thumbnail_url
    counted = run.progress()
    assert (counted.rendered, counted.fresh, counted.failed) == (2, 1, 2)
    assert bad.pk == rows["bad"].id


def test_rows__of_accepted_failures_have_their_reason(
    make_asset: MakeAsset, originals_dir: Path
) -> None:
    make_asset(name="bad.jpg")
    (originals_dir / "bad.jpg").write_bytes(b"no picture")
    done()
    accept_failures(ImageAsset.objects.all())
    row = rows_of(done())["bad"]
    assert (row.outcome, row.reason, row.state) == ("accepted", "unsupported", "accepted")


def test_rows__of_a_purge(make_asset: MakeAsset) -> None:
    kept = render(make_asset(name="one.jpg"))
    make_asset(name="none.jpg")
    rows = rows_of(done(Run.Kind.PURGE))
    assert fingerprints(rows["one"]) == (kept, "")
    assert {row.outcome for row in rows.values()} == {"purged"}


def test_rows__of_an_original_that_changed_meanwhile_are_of_both_attempts(
    make_asset: MakeAsset, originals_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = make_asset(name="one.jpg")
    was = render(asset)
    refresh = freshness.refresh

    def interrupted(row: ImageAsset, *arguments: Any, **options: Any) -> Any:
        result = refresh(row, *arguments, **options)
        ImageAsset.objects.filter(pk=row.pk).update(source_version="1-1")
        return result

    monkeypatch.setattr(freshness, "refresh", interrupted)
    row = rows_of(done(force=True))["one"]
    asset.refresh_from_db()
    assert (row.outcome, row.old_fingerprint) == ("rendered", was)
    assert row.new_fingerprint == asset.recorded_fingerprint


def test_rows__of_what_is_undone_are_open(make_asset: MakeAsset) -> None:
    make_asset(name="one.jpg")
    control.cancel(run := start_here())
    assert [(row.outcome, row.state) for row in run_report.rows(run)] == [("open", "missing")]


def test_rows__of_failures_that_were_undone_are_those_of_the_last_attempt(
    make_asset: MakeAsset, originals_dir: Path
) -> None:
    make_asset(name="one.jpg")
    make_asset(name="two.jpg")
    aside = (originals_dir / "one.jpg").rename(originals_dir / "aside")
    run = start_here()
    run.chunks.exclude(number=1).delete()
    work(run)
    assert rows_of(run)["one"].outcome == "failed"
    Chunk.objects.all().undo_failures()
    Run.objects.filter(pk=run.pk).update(state=Run.State.RUNNING)
    assert [row.name for row in run_report.rows(run)] == ["two.jpg", "one.jpg"]
    assert rows_of(run)["one"].outcome == "open"
    assert rows_of(run)["two"].outcome == "rendered"
    aside.rename(originals_dir / "one.jpg")
    work(run)
    assert rows_of(run)["one"].outcome == "rendered"


def test_rows__of_a_former_release_say_what_its_counts_do(make_asset: MakeAsset) -> None:
    make_asset(name="one.jpg")
    make_asset(name="two.jpg")
    run = done()
    run.chunks.update(outcomes=b"")
    assert [row.outcome for row in run_report.rows(run)] == ["rendered", "rendered"]
    run.chunks.update(rendered=1, fresh=1)
    assert [row.outcome for row in run_report.rows(run)] == ["unknown", "unknown"]
    assert run_report.compare(run).replaced == 0


def test_codes__there_is_one_for_every_outcome() -> None:
    assert set(CODES) == set(Outcome)
    assert len(set(CODES.values())) == len(CODES)


# --- how things stand now -------------------------------------------------------------------------


def test_compare__counts_what_is_fresh_replaced_purged_and_deleted(
    make_asset: MakeAsset, settings: Settings
) -> None:
    names = ("kept", "replaced", "purged", "deleted", "again")
    assets = {name: make_asset(name=f"{name}.jpg") for name in names}
    run = done()
    settings.THUMBNAIL_QUALITY = 60
    render(assets["replaced"])
    settings.THUMBNAIL_QUALITY = 85
    freshness.purge_now(assets["purged"].pk)
    freshness.purge_now(assets["again"].pk)
    render(assets["again"])  # of the same original by the same recipe: the same bytes
    assets["deleted"].delete()

    now = run_report.compare(run)
    assert now.states == {"missing": 1, "fresh": 2, "stale": 1, "failed": 0, "accepted": 0}
    assert (now.replaced, now.purged, now.deleted) == (1, 1, 1)
    gone = rows_of(run)[""]
    assert (gone.id, gone.outcome, gone.url, gone.state) == (
        run.chunks.get().asset_ids[3],
        "rendered",
        "",
        "deleted",
    )
    assert gone.new_fingerprint


@pytest.mark.parametrize("last", [2, 5])
def test_compare__counts_none_of_the_images_between(make_asset: MakeAsset, last: int) -> None:
    assets = [make_asset() for _ in range(6)]
    ids = [assets[0].pk, assets[last].pk]
    run = start_here(assets=ImageAsset.objects.filter(pk__in=ids))
    assert sum(run_report.compare(run).states.values()) == 2


# --- pages ----------------------------------------------------------------------------------------


def test_page__goes_through_all_images_in_order(
    make_asset: MakeAsset,
    small_chunks: None,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    ids = [make_asset().pk for _ in range(5)]
    run = start_here()
    seen: list[int] = []
    after = run_report.BEFORE_ALL
    for size in 2, 2, 1:
        with django_assert_num_queries(2):  # of chunks, and of images
            page = run_report.page(run, size=2, after=after)
        assert len(page.rows) == size
        seen += [row.id for row in page.rows]
        after = page.next_after or after
        is_last = page.next_after is None
        assert is_last == (len(seen) == len(ids))
    assert seen == ids


def test_page__filters(make_asset: MakeAsset, originals_dir: Path) -> None:
    make_asset(name="one.jpg")
    make_asset(name="bad.jpg")
    make_asset(name="gone.jpg")
    (originals_dir / "bad.jpg").write_bytes(b"no picture")
    (originals_dir / "gone.jpg").unlink()
    run = done()

    def names(**wanted: Any) -> list[str]:
        page = run_report.page(run, size=9, wanted=Filter(**wanted))
        return [row.name for row in page.rows]

    assert names(outcome="rendered") == ["one.jpg"]
    assert names(outcome="failed") == ["bad.jpg", "gone.jpg"]
    assert names(reason=Reason.SOURCE_MISSING) == ["gone.jpg"]
    assert names(outcome="open") == names(outcome="purged") == []


# --- files ----------------------------------------------------------------------------------------


def test_verify__reads_each_files_stamp(make_asset: MakeAsset, settings: Settings) -> None:
    settings.THUMBNAIL_VARIANTS = "@2x.jpg=20"
    names = ("whole", "gone", "cut", "other", "halved")
    assets = {name: make_asset(name=f"{name}.jpg") for name in names}
    run = done()
    cache.delete(assets["gone"].thumbnail_name)
    cache.write(assets["cut"].thumbnail_name, b"\xff\xd8")
    whole = cache.read(assets["whole"].thumbnail_name)
    assert whole is not None
    stamp = assets["other"].fingerprint.encode()
    cache.write(assets["other"].thumbnail_name, whole.replace(stamp, b"0123456789abcdef"))
    cache.delete(assets["halved"].thumbnail_name.replace(".jpg", "@2x.jpg"))
    assert {name: row.file for name, row in rows_of(run, verify=True).items()} == {
        "whole": "as recorded",
        "gone": "missing",
        "cut": "damaged",
        "other": "mismatched",
        "halved": "missing",
    }


def test_verify__looks_again_before_it_finds_fault(
    make_asset: MakeAsset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = make_asset()
    run = done()
    asset.refresh_from_db()
    before = asset.thumbnail_recipe
    check = audit.check

    def after_another_render(row: ImageAsset) -> Any:
        if row.thumbnail_recipe == before:
            settings.THUMBNAIL_QUALITY = 60
            render(asset)
        return check(row)

    monkeypatch.setattr(audit, "check", after_another_render)
    assert [row.file for row in run_report.rows(run, verify=True)] == ["as recorded"]


# --- exports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg"])
def test_csv__has_no_formulas(make_asset: MakeAsset, name: str) -> None:
    make_asset(name=name)
    run = done()
    lines = "".join(run_report.as_csv(run_report.rows(run)))
    (row,) = csv.DictReader(io.StringIO(lines))
    assert row["name"] == f"'{name}"


def test_exports__have_the_same_columns(make_asset: MakeAsset) -> None:
    asset = make_asset(name='a,"b.jpg')
    run = done()
    asset.refresh_from_db()
    expected = {
        "id": asset.pk,
        "name": 'a,"b.jpg',
        "outcome": "rendered",
        "reason": "",
        "old_fingerprint": "",
        "new_fingerprint": asset.fingerprint,
        "url": f"https://example.org{asset.thumbnail_url}",
        "state": "fresh",
    }
    rows = list(run_report.rows(run, site="https://example.org"))
    (line,) = csv.DictReader(io.StringIO("".join(run_report.as_csv(rows))))
    assert line == {key: str(value) for key, value in expected.items()}
    found = json.loads("".join(run_report.as_json(run, rows)))
    assert found["images"] == [expected]
    assert (found["run"], found["total"], found["rendered"], found["failures"]) == (
        run.pk,
        1,
        1,
        {},
    )
    assert found["now"]["fresh"] == 1
    assert json.loads("".join(run_report.as_json(run, [])))["images"] == []

"""Runs: a frozen scope, chunks that are claimed once, and counts that add up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import claim, pool_for, start_here, work
from tests.servers import QueueServer
from thumbnails import jobs
from thumbnails.exceptions import Crashed, NoSpace, NoThumbnail, Reason, UsageError
from thumbnails.models import Chunk, ImageAsset, Run, State
from thumbnails.rendering.pool import RenderPool
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.runs import control, execute, recovery, starting

pytestmark = pytest.mark.django_db


def test_start__freezes_the_scope(make_asset: MakeAsset) -> None:
    before = [make_asset().pk for _ in range(3)]
    run = start_here()
    make_asset()
    work(run)
    assert run.total == 3
    assert sorted(i for chunk in run.chunks.all() for i in chunk.asset_ids) == before
    assert ImageAsset.objects.fresh().count() == 3


def test_start__over_nothing_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(UsageError, match="Nothing to do"):
        start_here()
    assert not Run.objects.exists()


def test_start__chunks_are_of_bounded_size() -> None:
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{n}.jpg") for n in range(1_500))
    run = start_here()
    sizes = [len(chunk.asset_ids) for chunk in run.chunks.all()]
    assert sum(sizes) == run.total == 1_500
    assert max(sizes) <= starting.CHUNK_AT_MOST
    assert len(sizes) >= starting.CHUNKS_AT_LEAST


def test_start__chunks_of_a_small_run_are_not_tiny() -> None:
    """Each costs a claim and a commit."""
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{n}.jpg") for n in range(100))
    sizes = [len(chunk.asset_ids) for chunk in start_here().chunks.all()]
    assert sizes == [16] * 6 + [4]


def test_regenerate__counts_every_asset_once(make_asset: MakeAsset, originals_dir: Path) -> None:
    make_asset()
    fresh = make_asset()
    broken = make_asset(pictures.truncated())
    gone = make_asset(name="gone.jpg")
    (originals_dir / "gone.jpg").unlink()
    serving.serve(fresh)
    run = start_here()
    work(run)
    progress = run.progress()
    assert run.state == Run.State.DONE
    assert run.finished_at is not None
    assert (progress.rendered, progress.fresh, progress.failed) == (1, 1, 2)
    assert progress.done == run.total == 4
    assert progress.percent == 100
    assert progress.failures == {"unreadable": [broken.pk], "source_missing": [gone.pk]}
    broken.refresh_from_db()
    assert (broken.state, broken.thumbnail_error) == (State.FAILED, "unreadable")


def test_regenerate__force_renders_fresh_ones_and_only_once(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    serving.serve(asset)
    file = thumbnail_dir / asset.thumbnail_name
    before = file.stat().st_ino
    work(run := start_here(force=True))
    assert run.progress().rendered == 1
    assert file.stat().st_ino != before
    # What was rendered since the run began is not rendered again by it.
    second = start_here(force=True)
    Run.objects.filter(pk=second.pk).update(created_at=run.created_at)
    work(second)
    assert second.progress().fresh == 1


def test_regenerate__notices_an_original_that_changed_on_disk(
    make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="a.jpg")
    serving.serve(asset)
    (originals_dir / "a.jpg").write_bytes(pictures.png(pictures.scene(30, 90)))
    work(run := start_here())
    assert run.progress().rendered == 1
    asset.refresh_from_db()
    assert (asset.width, asset.height, asset.format) == (30, 90, "PNG")
    assert (asset.thumbnail_width, asset.thumbnail_height) == (30, 90)
    assert asset.state == State.FRESH


def test_purge__deletes_files_and_records(make_asset: MakeAsset, thumbnail_dir: Path) -> None:
    rendered, failed = make_asset(), make_asset(pictures.truncated())
    work(start_here())
    work(run := start_here(Run.Kind.PURGE))
    assert run.progress().purged == 2
    assert not list(thumbnail_dir.rglob("*.jpg"))
    for asset in (rendered, failed):
        asset.refresh_from_db()
        assert asset.state == State.MISSING
        assert asset.thumbnail_error == ""


@pytest.mark.parametrize("kind", list(Run.Kind))
def test_asset_deleted_meanwhile__is_counted_and_harms_nothing(
    make_asset: MakeAsset, kind: Run.Kind
) -> None:
    first = make_asset()
    make_asset()
    run = start_here(kind)
    first.delete()
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().done == 2
    assert run.progress().failed == 0


def test_unwritable_cache__fails_each_with_its_reason(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    thumbnail_dir.write_text("in the way")
    asset = make_asset()
    work(run := start_here())
    assert run.progress().failures == {"storage_error": [asset.pk]}
    asset.refresh_from_db()
    assert asset.thumbnail_name in asset.thumbnail_error_detail


def test_recipe_change__makes_all_stale_and_regeneration_mends_them(
    make_asset: MakeAsset, settings: Settings
) -> None:
    make_asset(pictures.jpeg(pictures.scene(640, 480)))
    work(start_here())
    settings.THUMBNAIL_QUALITY = 50
    assert ImageAsset.objects.stale().count() == 1
    work(run := start_here())
    assert run.progress().rendered == 1
    assert ImageAsset.objects.fresh().count() == 1


# --- Claims and leases ----------------------------------------------------------------------------


def test_chunk__delivered_twice_counts_once(make_asset: MakeAsset) -> None:
    make_asset()
    run = start_here()
    chunk = run.chunks.get()
    assert execute.work_chunk(chunk.pk, pool_for) is True
    assert execute.work_chunk(chunk.pk, pool_for) is False
    assert run.progress().done == 1


def test_claim__is_for_one_at_a_time_until_the_lease_runs_out(make_asset: MakeAsset) -> None:
    make_asset()
    chunk_id = start_here().chunks.get().pk
    first = claim(chunk_id)
    assert first is not None
    assert claim(chunk_id) is None
    Chunk.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    second = claim(chunk_id)
    assert second is not None
    assert second.claims == 2
    # The first comes back late: it must not count, nor give away what it has lost.
    with transaction.atomic():
        assert first.lock() is None
    assert first.renew() is False
    first.release()
    assert claim(chunk_id) is None
    assert second.renew() is True


def test_claim__may_be_tried_again_with_its_token(make_asset: MakeAsset) -> None:
    """The answer to the first may have been lost."""
    make_asset()
    chunk_id = start_here().chunks.get().pk
    token = uuid4()
    assert claim(chunk_id, token) is not None
    assert claim(chunk_id, token) is not None
    assert claim(chunk_id) is None


def test_claim__is_for_the_runs_recipe(make_asset: MakeAsset) -> None:
    make_asset()
    chunk_id = start_here().chunks.get().pk
    assert Chunk.objects.claim(chunk_id, uuid4(), recipe="another") is None
    Run.objects.update(kind=Run.Kind.PURGE)  # which makes nothing by any recipe
    assert Chunk.objects.claim(chunk_id, uuid4(), recipe="another") is not None


@pytest.mark.django_db(transaction=True)
def test_claim__of_many_at_once_one_wins(make_asset: MakeAsset) -> None:
    for _ in range(5):
        make_asset()
    chunk_ids = list(start_here().chunks.values_list("pk", flat=True))
    all_here = threading.Barrier(6)

    def claim_all(_: int) -> list[int]:
        all_here.wait(30)
        try:
            return [pk for pk in chunk_ids if claim(pk)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        won = [pk for pks in pool.map(claim_all, range(6)) for pk in pks]
    assert sorted(won) == sorted(chunk_ids)


def test_stop__keeps_what_is_done_and_goes_on_with_the_rest(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    assets = [make_asset() for _ in range(5)]
    run = start_here()
    Chunk.objects.all().delete()
    chunk = Chunk.objects.create(run=run, number=1, asset_ids=[asset.pk for asset in assets])
    execute.work_chunk(chunk.pk, pool_for, lambda: len(list(thumbnail_dir.rglob("*.jpg"))) >= 2)
    assert run.progress().rendered == 2
    assert ImageAsset.objects.fresh().count() == 2
    assert execute.work_chunk(chunk.pk, pool_for) is True
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert (run.progress().rendered, run.progress().fresh) == (5, 0)


def test_paused_or_cancelled_run__gives_no_chunk(make_asset: MakeAsset) -> None:
    make_asset()
    run = start_here()
    control.pause(run, "because")
    work(run)
    assert (run.state, run.pause_reason, run.progress().done) == (Run.State.PAUSED, "because", 0)
    control.take_over(run)
    control.cancel(run)
    work(run)
    assert (run.state, run.progress().done) == (Run.State.CANCELLED, 0)
    control.take_over(run)
    work(run)
    assert (run.state, run.progress().done) == (Run.State.DONE, 1)


def test_transitions__the_illegal_ones_are_refused_and_change_nothing(
    make_asset: MakeAsset,
) -> None:
    make_asset()
    work(run := start_here())
    for act in (control.cancel, control.resume, control.take_over):
        with pytest.raises(UsageError, match="is done"):
            act(run)
    control.pause(run, "")
    run.refresh_from_db()
    assert run.state == Run.State.DONE


def test_chunk__queries_do_not_grow_with_its_assets(
    make_asset: MakeAsset,
    django_assert_max_num_queries: DjangoAssertNumQueries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With time they grow: it is looked whether the run goes on, and what is done is saved.
    monkeypatch.setattr(execute, "LOOK_SECONDS", float("inf"))
    monkeypatch.setattr(execute, "FLUSH_SECONDS", float("inf"))
    assets = [make_asset() for _ in range(40)]
    run = start_here()
    Chunk.objects.all().delete()
    chunk = Chunk.objects.create(run=run, number=1, asset_ids=[asset.pk for asset in assets])
    with django_assert_max_num_queries(30):
        jobs.work_chunk(chunk.pk)
    assert run.progress().rendered == 40


# --- Storages that fail ---------------------------------------------------------------------------


def test_storage_errors_in_a_row__pause_the_run_and_mark_none_of_them(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    assets = [make_asset() for _ in range(12)]
    run = start_here()
    Chunk.objects.all().delete()
    chunk = Chunk.objects.create(run=run, number=1, asset_ids=[asset.pk for asset in assets])
    thumbnail_dir.write_text("in the way")
    jobs.work_chunk(chunk.pk)
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
    assert "5 storage errors in a row" in run.pause_reason
    assert run.progress().done == 0
    assert not ImageAsset.objects.exclude(thumbnail_error="").exists()
    thumbnail_dir.unlink()
    control.take_over(run)
    jobs.work_chunk(chunk.pk)
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert run.progress().rendered == 12


def test_storage_errors_in_a_row__are_counted_over_small_chunks(
    make_asset: MakeAsset, thumbnail_dir: Path, small_chunks: None
) -> None:
    for _ in range(12):
        make_asset()
    run = start_here()
    assert run.chunks.count() == 12
    thumbnail_dir.write_text("in the way")
    work(run)
    assert run.state == Run.State.PAUSED
    # Those before the last one, which were counted, are to be done again.
    assert (run.progress().done, run.progress().failures) == (0, {})
    thumbnail_dir.unlink()
    control.take_over(run)
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().rendered == 12


def test_paused_by_itself__is_tried_again_and_pauses_at_the_first_error(
    make_asset: MakeAsset, thumbnail_dir: Path, queue_server: QueueServer
) -> None:
    for _ in range(12):
        make_asset()
    run = start_here()
    thumbnail_dir.write_text("in the way")
    work(run)
    queue_server.flush()
    recovery.recover_runs()
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED  # not yet
    Run.objects.update(resume_at=timezone.now())
    queue_server.flush()
    recovery.recover_runs()
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    work(run)
    assert run.state == Run.State.PAUSED
    assert run.progress().done == 0
    thumbnail_dir.unlink()
    Run.objects.update(resume_at=timezone.now())
    queue_server.flush()
    recovery.recover_runs()
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().rendered == 12


def test_lost_mount__pauses_instead_of_calling_every_original_gone(
    make_asset: MakeAsset, originals_dir: Path, queue_server: QueueServer
) -> None:
    for _ in range(execute.MISSING_AT_MOST + 5):
        make_asset()
    run = start_here()
    mounted = originals_dir.with_name("elsewhere")
    originals_dir.rename(mounted)
    originals_dir.mkdir()
    work(run)
    assert run.state == Run.State.PAUSED
    assert "20 originals in a row are missing: is a disk not mounted?" in run.pause_reason
    assert (run.progress().done, run.progress().failures) == (0, {})
    originals_dir.rmdir()
    mounted.rename(originals_dir)
    Run.objects.update(resume_at=timezone.now())
    recovery.recover_runs()
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().rendered == run.total
    assert ImageAsset.objects.fresh().count() == run.total


def test_single_storage_errors__do_not_pause(make_asset: MakeAsset, thumbnail_dir: Path) -> None:
    assets = [make_asset() for _ in range(40)]
    # A file stands where the shard's folder should be: for few assets only.
    thumbnail_dir.mkdir()
    (thumbnail_dir / assets[3].thumbnail_name[:2]).write_text("in the way")
    work(run := start_here())
    assert run.state == Run.State.DONE
    assert run.progress().failed >= 1
    assert run.progress().done == 40


def test_space__too_little_is_refused_before_the_start(
    make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_asset()
    monkeypatch.setattr("thumbnails.upkeep.runs.planning.free_bytes", lambda: 1000)
    with pytest.raises(NoSpace, match="are needed"):
        start_here()
    assert not Run.objects.exists()
    starting.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.COMMAND,
        scope_text="all",
        leased=True,
        ignore_space=True,
    )


# --- Pictures that kill ---------------------------------------------------------------------------


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of originals that kill each process that decodes them."""
    names: set[str] = set()
    render = RenderPool.render

    def kill(self: RenderPool, file: Any, recipe: Any, *, name: str, **how: Any) -> Any:
        if name in names:
            raise Crashed("The process that decoded it died of SIGSEGV, 2 times.")
        return render(self, file, recipe, name=name, **how)

    monkeypatch.setattr(RenderPool, "render", kill)
    return names


def test_poison__is_not_tried_again_until_a_person_says_so(
    make_asset: MakeAsset, poisonous: set[str]
) -> None:
    asset, neighbour = make_asset(), make_asset()
    poisonous.add(str(asset.original.name))
    work(run := start_here())
    assert run.progress().failures == {"crashed": [asset.pk]}
    assert run.progress().rendered == 1
    neighbour.refresh_from_db()
    assert neighbour.state == State.FRESH
    poisonous.clear()
    # By a run over all, and by the public, it is left alone...
    work(run := start_here())
    assert run.progress().failures == {"crashed": [asset.pk]}
    asset.refresh_from_db()
    with pytest.raises(NoThumbnail):
        serving.serve(asset)
    # ... until a person says so.
    retried = starting.retry(run, origin=Run.Origin.COMMAND, reason=Reason.CRASHED, leased=True)
    work(retried)
    assert retried.progress().rendered == 1


@pytest.mark.parametrize("changed", ["recipe", "original"])
def test_poison__with_another_recipe_or_original_is_tried_again(
    make_asset: MakeAsset,
    poisonous: set[str],
    originals_dir: Path,
    settings: Settings,
    changed: str,
) -> None:
    asset = make_asset(name="a.jpg")
    poisonous.add("a.jpg")
    work(start_here())
    poisonous.clear()
    if changed == "recipe":
        settings.THUMBNAIL_QUALITY = 50
    else:
        (originals_dir / "a.jpg").write_bytes(pictures.png())
    work(run := start_here())
    assert run.progress().rendered == 1
    asset.refresh_from_db()
    assert asset.state == State.FRESH


def test_retry__of_nothing_is_refused(make_asset: MakeAsset) -> None:
    make_asset()
    work(run := start_here())
    with pytest.raises(UsageError, match="Nothing failed in"):
        starting.retry(run, origin=Run.Origin.COMMAND)
    assert Run.objects.count() == 1

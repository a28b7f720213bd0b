"""Working on runs: what a lost answer, a lost lease or a changed image leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import claim, pool_for, start_here, work
from tests.servers import QueueServer
from thumbnails.exceptions import Interrupted, NotFinished, NotNow
from thumbnails.models import Chunk, ImageAsset, Run, State, retry
from thumbnails.models.recipes import KnownRecipe, announce
from thumbnails.models.runs import Progress
from thumbnails.rendering import read_stamp
from thumbnails.rendering.pool import RenderPool
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import freshness, pools
from thumbnails.upkeep.runs import control, execute, recovery
from thumbnails.upkeep.runs.stopping import Stop

pytestmark = pytest.mark.django_db

AFTER_EACH, AT_THE_END = 0.0, float("inf")
"""When results are saved."""


def in_one_chunk(run: Run) -> Chunk:
    """All of the run's images."""
    ids = sorted(asset_id for chunk in run.chunks.all() for asset_id in chunk.asset_ids)
    run.chunks.all().delete()
    return Chunk.objects.create(run=run, number=1, asset_ids=ids)


@pytest.fixture
def while_rendering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen once, while a picture is rendered."""
    render = RenderPool.render

    def arrange(act: Callable[[], object]) -> None:
        acts = [act]

        def interrupted(self: RenderPool, *arguments: Any, **options: Any) -> Any:
            done = render(self, *arguments, **options)
            if acts:
                acts.pop()()
            return done

        monkeypatch.setattr(RenderPool, "render", interrupted)

    return arrange


# --- An answer that is lost -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("saved", [AFTER_EACH, AT_THE_END])
@pytest.mark.parametrize("arrives", [True, False])
def test_commit__whose_answer_is_lost_counts_once(
    make_asset: MakeAsset,
    monkeypatch: pytest.MonkeyPatch,
    told: list[dict[str, Any]],
    saved: float,
    arrives: bool,
) -> None:
    """The database cannot be asked whether the commit result: it may have, or not."""
    for _ in range(3):
        make_asset()
    chunk = in_one_chunk(run := start_here())
    record, commit = Chunk.record, BaseDatabaseWrapper.commit
    recorded: list[int] = []
    lost: list[int] = []

    def note(self: Chunk, results: Any) -> None:
        record(self, results)
        recorded.append(len(results))

    def lose(self: BaseDatabaseWrapper) -> None:
        if not recorded or lost:
            commit(self)
            return
        lost.append(1)
        if arrives:
            commit(self)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(execute, "FLUSH_SECONDS", saved)
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Chunk, "record", note)
    monkeypatch.setattr(BaseDatabaseWrapper, "commit", lose)
    assert execute.work_chunk(chunk.pk, pool_for) is True
    assert lost
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert (run.progress().rendered, run.progress().done) == (3, 3)
    for asset in ImageAsset.objects.all():
        assert (asset.state, asset.thumbnail_revision) == (State.FRESH, 1)
        assert len(asset.thumbnail_history) == 1
    ids = [asset_id for arguments in told for asset_id in arguments["asset_ids"]]
    assert ids == sorted(ImageAsset.objects.values_list("pk", flat=True))


# --- Results that are void ------------------------------------------------------------------------


def test_void__another_original_is_rendered_and_counted_once(
    make_asset: MakeAsset,
    originals_dir: Path,
    while_rendering: Callable[[Callable[[], object]], None],
) -> None:
    asset, other = make_asset(), make_asset()
    (originals_dir / "another.png").write_bytes(pictures.png(pictures.scene(30, 90)))
    chunk = in_one_chunk(run := start_here())
    while_rendering(
        lambda: ImageAsset.objects.filter(pk=asset.pk).update(
            original="another.png", source_version=originals.source_version("another.png")
        )
    )
    execute.work_chunk(chunk.pk, pool_for)
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert (run.progress().rendered, run.progress().done) == (2, 2)
    asset.refresh_from_db()
    assert asset.state == State.FRESH
    assert (asset.thumbnail_width, asset.thumbnail_height) == (30, 90)
    other.refresh_from_db()
    assert (other.state, other.thumbnail_revision) == (State.FRESH, 1)


def test_void__written_by_another_is_counted_once(
    make_asset: MakeAsset, while_rendering: Callable[[Callable[[], object]], None]
) -> None:
    asset = make_asset()
    chunk = in_one_chunk(run := start_here())
    while_rendering(lambda: ImageAsset.objects.update(thumbnail_revision=7))
    execute.work_chunk(chunk.pk, pool_for)
    assert (run.progress().rendered, run.progress().done) == (1, 1)
    asset.refresh_from_db()
    assert (asset.state, asset.thumbnail_revision) == (State.FRESH, 8)


def test_void__a_deleted_image_leaves_no_file(
    make_asset: MakeAsset,
    thumbnail_dir: Path,
    while_rendering: Callable[[Callable[[], object]], None],
) -> None:
    asset, other = make_asset(), make_asset()
    chunk = in_one_chunk(run := start_here())
    # As by another process, which deletes the file before this one writes it.
    while_rendering(lambda: ImageAsset.objects.filter(pk=asset.pk).delete())
    execute.work_chunk(chunk.pk, pool_for)
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert (run.progress().done, run.progress().failed) == (2, 0)
    assert [path.name for path in thumbnail_dir.rglob("*.jpg")] == [f"{other.pk}.jpg"]


def test_void__purge_is_done_again(make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = make_asset()
    work(start_here())
    chunk = in_one_chunk(run := start_here(Run.Kind.PURGE))
    purge = freshness.purge

    def overtaken(*arguments: Any, **options: Any) -> Any:
        done = purge(*arguments, **options)
        ImageAsset.objects.update(thumbnail_revision=7)
        return done

    monkeypatch.setattr(freshness, "purge", overtaken)
    execute.work_chunk(chunk.pk, pool_for)
    assert (run.progress().purged, run.progress().done) == (1, 1)
    asset.refresh_from_db()
    assert asset.state == State.MISSING


# --- A lease that is lost -------------------------------------------------------------------------


def test_zombie__whose_chunk_another_has_writes_nothing(
    make_asset: MakeAsset, while_rendering: Callable[[Callable[[], object]], None]
) -> None:
    """A process that stood still for longer than its lease, and then goes on."""
    for _ in range(2):
        make_asset()
    chunk = in_one_chunk(run := start_here())
    token = uuid4()

    def stand_still() -> None:
        Chunk.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        assert claim(chunk.pk, token) is not None

    while_rendering(stand_still)
    execute.work_chunk(chunk.pk, pool_for)
    chunk.refresh_from_db()
    assert (chunk.lease_token, chunk.position) == (token, 0)
    assert chunk.lease_until is not None
    assert run.progress().done == 0
    assert ImageAsset.objects.missing().count() == 2
    # The other one finds the files, and counts.
    chunk.release()
    assert execute.work_chunk(chunk.pk, pool_for) is True
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert run.progress().done == 2
    assert ImageAsset.objects.fresh().count() == 2


# --- A place that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [AFTER_EACH, AT_THE_END])
@pytest.mark.parametrize(
    ("place", "at_most"),
    [("originals", execute.MISSING_AT_MOST), ("cache", execute.STORAGE_ERRORS_AT_MOST)],
)
def test_place__that_fails_pauses_the_run_and_leaves_its_images_to_do(
    make_asset: MakeAsset,
    originals_dir: Path,
    thumbnail_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_chunks: None,
    saved: float,
    place: str,
    at_most: int,
) -> None:
    """However many of them were saved before the pause: each may take long to fail."""
    monkeypatch.setattr(execute, "FLUSH_SECONDS", saved)
    make_asset(name="good.jpg")
    for number in range(at_most + 5):
        make_asset(name=f"folder/{number}.jpg")
    run = start_here()
    work_first(run)
    chunk = in_one_chunk_of_the_rest(run)
    folder = originals_dir / "folder" if place == "originals" else thumbnail_dir
    elsewhere = originals_dir.with_name("elsewhere")
    folder.rename(elsewhere)
    if place == "cache":
        folder.write_text("in the way")
    execute.work_chunk(chunk.pk, pool_for)
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
    assert f"{at_most} " in run.pause_reason
    assert run.resume_at is not None
    assert (run.progress().rendered, run.progress().failed) == (1, 0)
    assert run.progress().failures == {}
    folder.unlink(missing_ok=True)
    elsewhere.rename(folder)
    control.take_over(run)
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().rendered == run.total
    assert ImageAsset.objects.fresh().count() == run.total


def work_first(run: Run) -> None:
    first = run.chunks.order_by("number")[0]
    assert execute.work_chunk(first.pk, pool_for) is True


def in_one_chunk_of_the_rest(run: Run) -> Chunk:
    open_ones = run.chunks.filter(finished_at=None)
    ids = sorted(asset_id for chunk in open_ones for asset_id in chunk.asset_ids)
    open_ones.delete()
    return Chunk.objects.create(run=run, number=run.total + 1, asset_ids=ids)


def test_missing__in_a_row_are_counted_over_small_chunks_and_others_between_end_the_row(
    make_asset: MakeAsset, originals_dir: Path
) -> None:
    for number in range(2 * execute.MISSING_AT_MOST - 1):
        make_asset(name=f"{number}.jpg")
        if number != execute.MISSING_AT_MOST - 1:
            (originals_dir / f"{number}.jpg").unlink()
    work(run := start_here())
    assert run.state == Run.State.DONE
    assert run.progress().failed == 2 * execute.MISSING_AT_MOST - 2


def test_missing__resumed_by_hand_goes_on_regardless(
    make_asset: MakeAsset, originals_dir: Path, queue_server: QueueServer
) -> None:
    """The originals are gone for good, and a person has seen it."""
    number = 2 * execute.MISSING_AT_MOST + 5
    for n in range(number):
        make_asset(name=f"{n}.jpg")
        (originals_dir / f"{n}.jpg").unlink()
    work(run := start_here())
    assert run.state == Run.State.PAUSED
    control.resume(run)
    assert run.roots.get().ignores_missing
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().failed == number


def test_missing__tried_again_by_itself_pauses_at_once(
    make_asset: MakeAsset, originals_dir: Path, queue_server: QueueServer
) -> None:
    for n in range(execute.MISSING_AT_MOST + 5):
        make_asset(name=f"{n}.jpg")
        (originals_dir / f"{n}.jpg").unlink()
    work(run := start_here())
    assert run.state == Run.State.PAUSED
    Run.objects.update(resume_at=timezone.now())
    recovery.recover_runs()
    run.refresh_from_db()
    assert (run.state, run.roots.get().ignores_missing) == (Run.State.RUNNING, False)
    work(run)
    assert run.state == Run.State.PAUSED
    assert run.progress().done == 0


# --- Recipes --------------------------------------------------------------------------------------


def put_in_force(digest: str) -> None:
    """Another recipe, as its process does that is started now."""
    KnownRecipe.objects.create(
        digest=digest,
        size_px=64,
        quality=50,
        background=[255, 255, 255],
        renderer=1,
        started_at=timezone.now() + timedelta(hours=1),
    )


@pytest.fixture
def another_process(settings: Settings) -> None:
    """What this process knows of recipes is forgotten before the test and after it."""
    settings.THUMBNAIL_QUALITY = 84


def test_recipe__a_run_of_another_one_is_not_worked_on(make_asset: MakeAsset) -> None:
    make_asset()
    run = start_here()
    Run.objects.update(recipe="another")
    assert execute.work_chunk(run.chunks.get().pk, pool_for) is False
    assert run.progress().done == 0
    assert run.chunks.get().claims == 0


def test_recipe__that_is_no_longer_in_force_works_on_nothing(
    make_asset: MakeAsset, another_process: None, thumbnail_dir: Path
) -> None:
    make_asset()
    run = start_here()
    put_in_force("another")
    assert execute.work_chunk(run.chunks.get().pk, pool_for) is False
    assert run.chunks.get().lease_until is None
    assert not list(thumbnail_dir.rglob("*.jpg"))


def test_recipe__a_purge_needs_none(make_asset: MakeAsset, another_process: None) -> None:
    make_asset()
    work(start_here())
    run = start_here(Run.Kind.PURGE)
    put_in_force("another")
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().purged == 1


def test_recipe__a_run_of_another_one_cannot_be_resumed(
    make_asset: MakeAsset, another_process: None
) -> None:
    make_asset()
    run = start_here()
    control.pause(run, "because")
    Run.objects.update(recipe="another")
    run.refresh_from_db()
    for act in (control.resume, control.take_over):
        with pytest.raises(NotNow, match="is of recipe another, and 256 px, quality 84"):
            act(run)
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED


def test_recipe__runs_of_others_than_that_in_force_are_paused(
    make_asset: MakeAsset, another_process: None, queue_server: QueueServer
) -> None:
    make_asset()
    old, current, purge = start_here(), start_here(), start_here(Run.Kind.PURGE)
    Run.objects.update(lease_until=None)
    Run.objects.filter(pk__in=[old.pk, purge.pk]).update(recipe="another")
    recovery.recover_runs()
    for run in (old, current, purge):
        run.refresh_from_db()
    assert (old.state, old.pause_reason) == (Run.State.PAUSED, recovery.NO_LONGER_IN_FORCE)
    assert old.resume_at is None
    assert (current.state, purge.state) == (Run.State.RUNNING, Run.State.RUNNING)


def test_recipe__what_a_dead_process_has_not_saved_is_not_served_after_a_change(
    make_asset: MakeAsset,
    queue_server: QueueServer,
    settings: Settings,
) -> None:
    """A web server in front would send it under the address of what is recorded."""
    make_asset()
    freshness.refresh_now(make_asset().pk, pools.web_pool())
    settings.THUMBNAIL_SIZE = 50
    run = start_here()
    claim(run.chunks.get().pk)
    for asset in ImageAsset.objects.all():
        freshness.refresh(asset, pools.web_pool())  # and dies
    Run.objects.update(lease_until=None)

    settings.THUMBNAIL_SIZE = 256
    announce()
    recovery.recover_runs()
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING  # the process may live
    Chunk.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    queue_server.flush()
    recovery.recover_runs()
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
    for asset in ImageAsset.objects.all():
        content = cache.read(asset.thumbnail_name)
        assert content is None or f"?v={read_stamp(content)}" in asset.thumbnail_url


# --- The command ----------------------------------------------------------------------------------


def ignore(_: Progress) -> None:
    """Of the progress."""


@pytest.mark.django_db(transaction=True)
def test_command__works_to_the_end(make_asset: MakeAsset) -> None:
    for _ in range(5):
        make_asset()
    make_asset(pictures.truncated())
    run = start_here()
    told: list[Progress] = []
    progress = execute.work(run, processes=2, stop=Stop(), on_progress=told.append)
    assert run.state == Run.State.DONE
    assert (progress.rendered, progress.failed) == (5, 1)
    assert told[-1] == progress
    run.refresh_from_db()
    assert run.lease_until is None


@pytest.mark.django_db(transaction=True)
def test_command__asked_to_end_pauses_the_run(make_asset: MakeAsset) -> None:
    make_asset()
    run = start_here()
    stop = Stop()
    stop.ask("SIGTERM")
    with pytest.raises(Interrupted, match="Stopped by SIGTERM"):
        execute.work(run, processes=1, stop=stop, on_progress=ignore)
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
    assert run.lease_until is None
    assert not Chunk.objects.exclude(lease_until=None).exists()


@pytest.mark.django_db(transaction=True)
def test_command__whose_recipe_is_no_longer_in_force_pauses_the_run(
    make_asset: MakeAsset, another_process: None
) -> None:
    make_asset()
    run = start_here()
    put_in_force("another")
    with pytest.raises(NotFinished, match="another recipe"):
        execute.work(run, processes=1, stop=Stop(), on_progress=ignore)
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
    assert run.progress().done == 0

"""Runs over many assets: start, work, stop and go on."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django.db import transaction

from thumbnails.exceptions import UsageError
from thumbnails.models import Chunk, ImageAsset, Outcome, Run, recipe_in_force
from thumbnails.models.assets import Change, ImageAssetQuerySet
from thumbnails.upkeep import audit, freshness, queue
from thumbnails.upkeep.selection import Selection

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CHUNKS_AT_LEAST = 32
"""So many chunks a run has where it can: all workers stay busy to its end."""
CHUNK_AT_MOST = 200
FLUSH_SECONDS = 1.0
"""How often a chunk's results are written down: what a crash can make to be done again."""


class NotDispatched(Exception):
    """The run is saved, but the queue cannot be reached: nobody is told to work on it."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run} is saved, but the queue cannot be reached.")
        self.run = run


def start(
    kind: Run.Kind,
    assets: ImageAssetQuerySet,
    *,
    scope_text: str,
    scope: dict[str, Any] | None = None,
    force: bool = False,
    by: "User | None" = None,
    by_command: bool = False,
    note: str = "",
) -> Run:
    """Record a run over these assets, as they are now, and hand it to the workers.

    With `by_command` nothing is enqueued: the caller works on it. Raises UsageError where there
    are no assets, and NotDispatched where the queue cannot be reached.
    """
    with transaction.atomic():
        total = assets.count()
        if total == 0:
            raise UsageError("There is nothing to do: no image is meant.")
        run = Run.objects.create(
            kind=kind,
            force=force,
            scope=scope or {},
            scope_text=scope_text[:300],
            recipe=recipe_in_force().digest,
            started_by=by,
            by_command=by_command,
            note=note,
        )
        run.total = _freeze(run, assets, chunk_size=_chunk_size(total))
        run.save(update_fields=["total"])
    if not by_command:
        _dispatch(run)
    return run


def _chunk_size(total: int) -> int:
    return max(1, min(CHUNK_AT_MOST, total // CHUNKS_AT_LEAST))


def _freeze(run: Run, assets: ImageAssetQuerySet, *, chunk_size: int) -> int:
    """Write the run's chunks; gives the number of assets in them. Memory does not grow with it."""
    ids = assets.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=10_000)
    total = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal total
        number = 0
        while part := list(islice(ids, chunk_size)):
            total += len(part)
            number += 1
            yield Chunk(run=run, number=number, asset_ids=part)

    written = chunks()
    while batch := list(islice(written, 500)):
        Chunk.objects.bulk_create(batch)
    return total


def _dispatch(run: Run) -> None:
    """Give the run's open chunks to the workers, once the transaction around us is through."""

    def enqueue() -> None:
        ids = run.chunks.open().order_by("number").values_list("pk", flat=True)
        try:
            queue.enqueue(ids.iterator(), run_total=run.total)
        except queue.QueueDown as error:
            raise NotDispatched(run) from error

    transaction.on_commit(enqueue)


def work_chunk(
    chunk_id: int, *, token: UUID | None = None, should_stop: Callable[[], bool] = lambda: False
) -> bool:
    """Do what is left of a chunk. True: it came to its end here.

    Claims it first, so a chunk that is finished, taken, or of a run that is not running is left
    alone. Stops between two assets when `should_stop` says so or the run was paused or
    cancelled; what was done by then stays done and counted. `token` names the process that
    works, so that another can give up its chunks when it dies.
    """
    chunk = Chunk.objects.claim(chunk_id, token or uuid4())
    if chunk is None:
        return False
    finished = False
    try:
        finished = _work(chunk, should_stop)
    finally:
        if not finished:
            chunk.release()
    Run.objects.settle(chunk.run_id)
    return True


def _work(chunk: Chunk, should_stop: Callable[[], bool]) -> bool:
    run = chunk.run
    ids = chunk.asset_ids[chunk.position :]
    assets = ImageAsset.objects.in_bulk(ids)
    changes: list[Change] = []
    flush_at = time.monotonic() + FLUSH_SECONDS
    for asset_id in ids:
        if time.monotonic() >= flush_at:
            if not _flush(chunk, changes) or not _is_running(run.pk):
                return False
            changes = []
            flush_at = time.monotonic() + FLUSH_SECONDS
        if should_stop():
            _flush(chunk, changes)
            return False
        changes.append(_do_one(run, asset_id, assets.get(asset_id)))
    return _flush(chunk, changes)


def _do_one(run: Run, asset_id: int, asset: ImageAsset | None) -> Change:
    purging = run.kind == Run.Kind.PURGE
    if asset is None:  # deleted since the scope was frozen: nothing is left to do for it
        return Change(asset_id=asset_id, outcome=Outcome.PURGED if purging else Outcome.FRESH)
    if purging:
        return freshness.purge(asset)
    return freshness.refresh(asset, rendered_since=run.created_at if run.force else None)


def _flush(chunk: Chunk, changes: list[Change]) -> bool:
    """Write down and count. False where the chunk went to somebody else, who will count."""
    with transaction.atomic():
        ImageAsset.objects.write_down(changes)
        return chunk.count(changes)


def _is_running(run_id: int) -> bool:
    return Run.objects.filter(pk=run_id, state=Run.State.RUNNING).exists()


def work_open_chunks(run_id: int, *, token: UUID, should_stop: Callable[[], bool]) -> None:
    """Do chunk after chunk of a run until none is open."""
    while not should_stop():
        open_chunks = Chunk.objects.open().filter(run=run_id).order_by("number")
        chunk_id = open_chunks.values_list("pk", flat=True).first()
        if chunk_id is None or not _is_running(run_id):
            return
        work_chunk(chunk_id, token=token, should_stop=should_stop)


def pause(run: Run, reason: str) -> None:
    """Stop it where it is; `resume` goes on. Raises UsageError where it is not running."""
    _move(run, Run.State.PAUSED, "paused", pause_reason=reason[:300])


def pause_if_running(run: Run, reason: str) -> None:
    """As `pause`, for whoever cannot know whether it is over already."""
    Run.objects.move(run.pk, Run.State.PAUSED, pause_reason=reason[:300])


def cancel(run: Run) -> None:
    """Stop it within one picture per worker and keep what was done. Raises UsageError."""
    _move(run, Run.State.CANCELLED, "cancelled")


def resume(run: Run, *, by_command: bool = False) -> None:
    """Go on with what is left. Raises UsageError where it is running or done, NotDispatched."""
    _move(run, Run.State.RUNNING, "resumed", by_command=by_command)
    if not by_command:
        _dispatch(run)


def _move(run: Run, to: Run.State, participle: str, **also: Any) -> None:
    if not Run.objects.move(run.pk, to, **also):
        run.refresh_from_db()
        raise UsageError(f"{run} is {run.state} and cannot be {participle}.")
    run.refresh_from_db()


def for_workers(kind: Run.Kind, selection: Selection, *, force: bool = False) -> Run | None:
    """A new run over what the selection has to have done, handed to the workers.

    None where nothing is to do. Raises UsageError where the selection means no image, and
    NotDispatched.
    """
    return _start_selected(kind, selection, force=force, by_command=False)


def for_command(kind: Run.Kind, selection: Selection, *, force: bool = False) -> Run | None:
    """The run that a command has to work on itself: the one it left unfinished, or a new one.

    None where nothing is to do. Raises UsageError where the selection means no image, or where
    the same command is at work already.
    """
    unfinished = (
        Run.objects.filter(kind=kind, force=force, scope=selection.as_json(), by_command=True)
        .filter(state__in=(Run.State.RUNNING, Run.State.PAUSED))
        .first()
    )
    if unfinished is not None:
        if unfinished.chunks.at_work().exists():
            raise UsageError(f"The same command is at work already, as {unfinished}.")
        goes_on = force or kind == Run.Kind.PURGE
        if goes_on and unfinished.recipe == recipe_in_force().digest:
            if unfinished.state == Run.State.PAUSED:
                resume(unfinished, by_command=True)
            return unfinished
        # What it rendered is fresh now: a new run over what is not goes on where it stopped.
        cancel(unfinished)
    return _start_selected(kind, selection, force=force, by_command=True)


def _start_selected(
    kind: Run.Kind, selection: Selection, *, force: bool, by_command: bool
) -> Run | None:
    assets = selection.existing_assets()
    if kind == Run.Kind.REGENERATE and not force:
        audit.note_lost_files(assets)
        assets = assets.not_fresh()
        if not assets.exists():
            return None
    return start(
        kind,
        assets,
        scope=selection.as_json(),
        scope_text=str(selection),
        force=force,
        by_command=by_command,
    )

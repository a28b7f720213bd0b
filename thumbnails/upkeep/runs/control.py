"""Pausing, cancelling and resuming runs."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now

from thumbnails.batching import batched
from thumbnails.exceptions import NotDispatched, NotNow, QueueDown
from thumbnails.models import ImageAsset, Run, recipe_in_force
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.models.recipes import label_of, labels
from thumbnails.models.runs import LEASE, Progress
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import acceptance
from thumbnails.upkeep.images.freshness import delete_unsaved

logger = logging.getLogger(__name__)

ENQUEUED_AT_MOST = 1000
"""Per run and recovery: the rest follows while those are worked on."""
FAILED_AT_ONCE = 10_000
"""Ids of failed images that a query takes."""

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def pause(run: Run, reason: str) -> None:
    """Pause the run, to be resumed, if it is running."""
    Run.objects.move(run.pk, Run.State.PAUSED, pause_reason=reason[:300])
    run.refresh_from_db()


def cancel(run: Run, *, reason: str = "", by: "User | None" = None) -> None:
    """Stop after the current image of each worker and keep what is done. Raises NotNow."""
    _move(run, Run.State.CANCELLED, "cancelled", pause_reason=reason, by=by)


def abandon(run: Run) -> bool:
    """Delete what processes that died have rendered for this run and not saved. To be called when
    its recipe is no longer in force, so that none continues it.

    Returns False, doing nothing, while a process works on it, or may have died just now.
    """
    begun = run.chunks.filter(finished_at=None, claims__gt=0)
    if begun.leased().exists():
        return False
    for chunk in begun:
        delete_unsaved(chunk.asset_ids[chunk.position :])
    return True


def resume(run: Run, *, by: "User | None" = None) -> None:
    """Hand the rest of the run to the workers, also of a stalled run.

    Raises NotNow if it is done or a command works on it, NotDispatched if the queue is down.
    """
    # Resuming it by hand accepts the reason for the pause.
    missing = run.roots.away().filter(missing_in_a_row__gt=0)
    if run.state == Run.State.RUNNING and not run.is_leased:
        if run.roots.away().exists():
            with transaction.atomic():
                missing.update(ignores_missing=True)
                Run.objects.reach_again(run.pk)
        try:
            enqueue_open(run, queue.enqueued_chunks())
        except QueueDown as error:
            raise NotDispatched(run) from error
        return
    _check_resumable(run)
    with transaction.atomic():
        missing.update(ignores_missing=True)
        _move(run, Run.State.RUNNING, "resumed", by=by, lease_until=None)
    dispatch(run)


def take_over(run: Run) -> None:
    """Resume a run under the caller's lease. Raises NotNow if that is illegal."""
    if run.state != Run.State.RUNNING:
        _check_resumable(run)
        _move(run, Run.State.RUNNING, "resumed", lease_until=Now() + LEASE)
    elif not Run.objects.renew_lease(run.pk):
        raise NotNow(f"{run} is not running any more.")


def _move(run: Run, to: Run.State, participle: str, **also: Any) -> None:
    moved = Run.objects.move(run.pk, to, **also)
    run.refresh_from_db()
    if not moved:
        raise NotNow(f"{run} is {run.state} and cannot be {participle}.")


def why_not_resumed(run: Run) -> str:
    """Returns why a paused or cancelled run cannot be resumed; empty if it can."""
    in_force = recipe_in_force()
    if run.kind == Run.Kind.REGENERATE and run.recipe != in_force.digest:
        # No process would work on it.
        return (
            f"{run} is of recipe {labels().get(run.recipe, run.recipe)}, and {label_of(in_force)} "
            "is in force now: start a new run."
        )
    newer = run.newer_over_same()
    return "" if newer is None else f"{newer} is over the same images, and newer than {run}."


def _check_resumable(run: Run) -> None:
    """Raises NotNow."""
    if reason := why_not_resumed(run):
        raise NotNow(reason)


def accept_failures(run: Run) -> list[int]:
    """Accept what failed in the run and still does. Returns the ids of these assets."""
    changed: list[int] = []
    for assets in _failed(run.progress()):
        changed += acceptance.accept_failures(assets)
    return changed


def has_acceptable(progress: Progress) -> bool:
    """Returns whether there are failures for `accept_failures`."""
    return any(assets.acceptable().exists() for assets in _failed(progress))


def _failed(progress: Progress) -> Iterator[ImageAssetQuerySet]:
    ids = [asset_id for some in progress.failures.values() for asset_id in some]
    for some in batched(ids, FAILED_AT_ONCE):
        yield ImageAsset.objects.filter(pk__in=some)


def dispatch(run: Run) -> None:
    """Enqueue the run's open chunks on commit. Raises NotDispatched if the queue is down."""

    def enqueue() -> None:
        ids = run.chunks.open().order_by("number").values_list("pk", flat=True)
        try:
            queue.enqueue(ids.iterator(), bulk=run.is_large)
        except QueueDown as error:
            raise NotDispatched(run) from error

    transaction.on_commit(enqueue)


def enqueue_open(run: Run, waiting: set[int]) -> None:
    """Enqueue this run's open chunks except those that are `waiting`. Raises QueueDown."""
    ids = run.chunks.open().order_by("number").values_list("pk", flat=True)
    lost = [chunk_id for chunk_id in ids if chunk_id not in waiting][:ENQUEUED_AT_MOST]
    if lost:
        queue.enqueue(lost, bulk=run.is_large)
        logger.info("%s: %d chunks are enqueued again", run, len(lost))

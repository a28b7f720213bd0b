"""Runs that are stopped and go on."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now

from thumbnails.exceptions import NotDispatched, NotNow, QueueDown
from thumbnails.models import Run, recipe_in_force
from thumbnails.models.recipes import label_of, labels
from thumbnails.models.runs import LEASE
from thumbnails.upkeep.runs import queue, recovery

if TYPE_CHECKING:
    from django.contrib.auth.models import User

RETRY_AFTER = timedelta(seconds=60)
"""How long a run stays paused that paused itself, before the workers try it again."""


def pause(run: Run, reason: str) -> None:
    """Stop it where it is; `resume` goes on. Raises NotNow where it is not running."""
    _move(run, Run.State.PAUSED, "paused", pause_reason=reason[:300], resume_at=None)


def pause_if_running(run: Run, reason: str) -> None:
    """As `pause`, where it may be over already."""
    Run.objects.move(run.pk, Run.State.PAUSED, pause_reason=reason[:300])


def cancel(run: Run, *, by: "User | None" = None) -> None:
    """Stop it within one picture per worker and keep what was done. Raises NotNow."""
    _move(run, Run.State.CANCELLED, "cancelled", by=by)


def resume(run: Run, *, by: "User | None" = None) -> None:
    """Let the workers go on with what is left, also of a running run that no process works on.

    Raises NotNow where it is done or a command works on it, NotDispatched.
    """
    if run.state == Run.State.RUNNING and not run.is_leased:
        try:
            recovery.enqueue_open(run)
        except QueueDown as error:
            raise NotDispatched(run) from error
        return
    _check_recipe(run)
    # Who resumes it by hand has read why it paused.
    ignores_missing = run.ignores_missing or run.missing_in_a_row > 0
    _move(
        run,
        Run.State.RUNNING,
        "resumed",
        by=by,
        lease_until=None,
        ignores_missing=ignores_missing,
    )
    dispatch(run)


def take_over(run: Run) -> None:
    """Go on with a run oneself. Raises NotNow where it is done or cancelled."""
    if run.state != Run.State.RUNNING:
        _check_recipe(run)
        _move(run, Run.State.RUNNING, "resumed", lease_until=Now() + LEASE)
    elif not Run.objects.renew_lease(run.pk):
        raise NotNow(f"{run} is not running any more.")


def _move(run: Run, to: Run.State, participle: str, **also: Any) -> None:
    moved = Run.objects.move(run.pk, to, **also)
    run.refresh_from_db()
    if not moved:
        raise NotNow(f"{run} is {run.state} and cannot be {participle}.")


def _check_recipe(run: Run) -> None:
    """Raises NotNow where no process could go on with it: it would stand still."""
    in_force = recipe_in_force()
    if run.kind == Run.Kind.REGENERATE and run.recipe != in_force.digest:
        raise NotNow(
            f"{run} is of recipe {labels().get(run.recipe, run.recipe)}, and {label_of(in_force)} "
            "is in force now: start a new run."
        )


def dispatch(run: Run) -> None:
    """Give the run's open chunks to the workers, once the transaction around us is through."""

    def enqueue() -> None:
        ids = run.chunks.open().order_by("number").values_list("pk", flat=True)
        try:
            queue.enqueue(ids.iterator(), bulk=run.is_large)
        except QueueDown as error:
            raise NotDispatched(run) from error

    transaction.on_commit(enqueue)

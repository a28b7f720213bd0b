"""Which processes carry a run, and why it stands still where none does."""

from thumbnails.exceptions import QueueDown
from thumbnails.models import Run
from thumbnails.models.recipes import labels
from thumbnails.upkeep.runs import queue
from thumbnails.upkeep.runs.queue import QueueUse


def queue_use(run: Run) -> QueueUse | None:
    """The queue and the workers that carry the run.

    None where the queue cannot be reached, which is asked only of a run that is under way.
    """
    if run.is_over:
        return QueueUse(waiting={}, workers=0)
    try:
        return queue.use()
    except QueueDown:
        return None


def why_it_stands_still(run: Run, carried_by: QueueUse | None) -> str:
    """A sentence; empty where the run is worked on, or should not be. Takes its `queue_use`."""
    if run.state != Run.State.RUNNING or run.is_leased:
        return ""
    if carried_by is None:
        return (
            "The queue cannot be reached. The run is saved, and goes on by itself when queue and "
            "workers are back."
        )
    if not carried_by.workers:
        return (
            "No worker is running, and no command works on it. It goes on by itself as soon as a "
            "worker is started."
        )
    if run.kind == Run.Kind.REGENERATE and not _has_worker_of(run.recipe):
        recipe = labels().get(run.recipe, run.recipe)
        return (
            f"No worker has this run's recipe ({recipe}): those that are running were started "
            "with other settings or another version. It goes on as soon as one with it is started."
        )
    return ""


def _has_worker_of(recipe: str) -> bool:
    try:
        return queue.has_worker_of(recipe)
    except QueueDown:
        return True  # which the next look will tell

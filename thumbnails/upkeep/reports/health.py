"""Which processes work on a run, and why it stands still if none does."""

from thumbnails.exceptions import QueueDown
from thumbnails.models import Run
from thumbnails.models.recipes import labels
from thumbnails.upkeep import queue
from thumbnails.upkeep.queue import QueueUse


def queue_use(run: Run) -> QueueUse | None:
    """Returns the load of the queue and its workers, None if the queue cannot be reached.

    Without a query for a run that is over.
    """
    if run.is_over:
        return QueueUse(waiting={}, workers=0)
    return queue.use_if_reachable()


def why_it_stands_still(run: Run, use: QueueUse | None) -> str:
    """Returns a sentence; empty if all of the run is worked on, or it is not running.

    `use`: `queue_use`.
    """
    if run.state != Run.State.RUNNING:
        return ""
    if why := run.roots.why_away():
        return f"{why} The run goes on with its other images."
    if run.is_leased:
        return ""
    if use is None:
        return (
            "The queue cannot be reached. The run is saved, and goes on by itself when queue and "
            "workers are back."
        )
    if not use.workers:
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
        return True  # unknown until the next call

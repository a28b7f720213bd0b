"""Finding stalled runs and resuming them.

The database has the state of all runs; the queue is only a transport. So a chunk whose worker
died, a job lost with the queue's data, a run whose command was killed or that was not marked done
are all found by queries, and any worker with the run's recipe can recover them.
"""

import logging

from thumbnails.models import Chunk, Run, recipes
from thumbnails.upkeep import queue
from thumbnails.upkeep.runs.control import abandon, enqueue_open
from thumbnails.upkeep.runs.healing import heal

logger = logging.getLogger(__name__)

RECOVER_SECONDS = 5.0
"""Interval of recovery. With LEASE it bounds how long a run stalls after a crash: 20 seconds."""


NO_LONGER_IN_FORCE = (
    "Its recipe is no longer in force: processes with another one were started since. "
    "Start a new run."
)


def recover_runs() -> None:
    """Enqueue open chunks that are not queued, mark finished runs done, and begin what is to be
    done after a change of recipe. Raises QueueDown.

    Of all workers with a recipe, one does so within RECOVER_SECONDS. Runs of another recipe are
    left to its workers while it is in force, and paused when it no longer is.
    """
    own = recipes.own_recipe()
    queue.note_worker_of(own.digest)
    if not queue.is_my_turn(f"recovery-{own.digest}", RECOVER_SECONDS * 0.9):
        return
    Chunk.objects.open_abandoned()
    if not recipes.is_own_in_force():
        return
    _pause_runs_of_other_recipes(own.digest)
    for run in Run.objects.due_again():
        if Run.objects.move(run.pk, Run.State.RUNNING, lease_until=None):
            logger.info("%s is tried again", run)
    heal()
    waiting = queue.enqueued_chunks()
    for run in Run.objects.unleased().of_recipe(own.digest):
        if not Run.objects.settle(run.pk):
            enqueue_open(run, waiting)


def _pause_runs_of_other_recipes(in_force: str) -> None:
    """They would never end: no process renders with a recipe that is not in force."""
    others = Run.objects.unleased().filter(kind=Run.Kind.REGENERATE).exclude(recipe=in_force)
    for run in others:
        if not Run.objects.settle(run.pk) and abandon(run):
            Run.objects.move(run.pk, Run.State.PAUSED, pause_reason=NO_LONGER_IN_FORCE)

"""Looking after the runs: whatever was lost on the way is found here and goes on.

The database is the record and the queue only carries. So a chunk whose worker died, a job that
was lost with the queue's data, a run whose command was killed or that nobody called done: all of
them are conditions on rows, and whoever lives can see to them.
"""

import logging

from thumbnails.models import Chunk, Run
from thumbnails.upkeep import queue, tallies

logger = logging.getLogger(__name__)

TEND_SECONDS = 5.0
"""How often. With LEASE it bounds how long a run stands still after any crash: 20 seconds."""
ENQUEUED_AT_MOST = 1000
"""Of one run at a time: the rest follows while those are worked on."""


def count() -> None:
    """Count one of the tallies, if one is due. Raises QueueDown.

    One of all who call it within TEND_SECONDS does it.
    """
    if queue.is_my_turn("counting", TEND_SECONDS * 0.9):
        tallies.count_one()


def tend() -> None:
    """Hand to the workers what is open and not in the queue; call done what is. Raises QueueDown.

    One of all who call it within TEND_SECONDS does it. Reading a run's progress never does.
    """
    if not queue.is_my_turn("tending", TEND_SECONDS * 0.9):
        return
    for run in Run.objects.due_again():
        if Run.objects.move(run.pk, Run.State.RUNNING, attended_until=None):
            logger.info("%s is tried again", run)
    Chunk.objects.open_abandoned()
    waiting = queue.enqueued_chunks()
    for run in Run.objects.unattended():
        if not Run.objects.settle(run.pk):
            _hand_over(run, waiting)


def hand_over(run: Run) -> None:
    """As `tend`, at once and for this run alone. Raises QueueDown."""
    _hand_over(run, queue.enqueued_chunks())


def _hand_over(run: Run, waiting: set[int]) -> None:
    ids = run.chunks.open().order_by("number").values_list("pk", flat=True)
    lost = [chunk_id for chunk_id in ids if chunk_id not in waiting][:ENQUEUED_AT_MOST]
    if lost:
        queue.enqueue(lost, bulk=run.is_large)
        logger.info("%s: %d chunks are handed to the workers again", run, len(lost))

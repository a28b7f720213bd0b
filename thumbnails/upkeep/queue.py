"""The queue: it carries the chunks of runs to the workers, and nothing is lost with it."""

from collections.abc import Iterable

import django_rq
from redis.exceptions import RedisError
from rq.queue import Queue

NOW, BULK = "thumbnails-now", "thumbnails-bulk"
"""Workers serve them in this order, so that a click on a few overtakes a rebuild."""

SMALL_RUN = 500
"""A run of at most so many assets goes to NOW."""

WORK_CHUNK = "thumbnails.jobs.work_chunk"
"""By its dotted path: jobs are above us, and nothing imports upward."""


class QueueDown(Exception):
    """The queue's server cannot be reached."""


def enqueue(chunk_ids: Iterable[int], *, run_total: int) -> None:
    """One job a chunk. Raises QueueDown; then some of them may be enqueued, which harms nothing."""
    queue: Queue = django_rq.get_queue(NOW if run_total <= SMALL_RUN else BULK)
    jobs = [
        Queue.prepare_data(
            WORK_CHUNK,
            (chunk_id,),
            job_id=f"chunk-{chunk_id}",
            # The lease decides when a chunk is lost, and the ledger keeps what came of it.
            timeout=-1,
            result_ttl=0,
            failure_ttl=86_400,
        )
        for chunk_id in chunk_ids
    ]
    try:
        queue.enqueue_many(jobs)
    except RedisError as error:
        raise QueueDown(f"The queue cannot be reached: {error}") from error

"""The queue of chunks, of assets to refresh and of purges of a CDN. It can be lost without harm:
the database has the state of all runs and what is to be purged, and assets that are not refreshed
are asked for again."""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import django_rq
from django.utils import timezone
from redis.exceptions import RedisError
from rq.queue import EnqueueData, Queue
from rq.utils import utcparse
from rq.worker import Worker

from thumbnails.batching import batched
from thumbnails.exceptions import QueueDown

NOW, BULK = "thumbnails-now", "thumbnails-bulk"
"""Workers serve them in this order, so that small runs overtake large ones."""

WORK_CHUNK = "thumbnails.jobs.work_chunk"
REFRESH_ASSETS = "thumbnails.jobs.refresh_assets"
PURGE_CDN = "thumbnails.jobs.purge_cdn"
"""By their dotted paths: `jobs` is a layer above this one, so it cannot be imported."""
PER_JOB = 50
"""Assets that a job refreshes at most."""
WAITING_AT_MOST = 2_000
"""Jobs that wait while further assets are enqueued; with more, they are left to later visits. A
request may be made again, so that the queue would grow for as long as no worker is running."""
REQUESTED_SECONDS = 300
"""How long a request to refresh an asset stands, unless a worker has met it. After that it may be
made again, in case the job was lost."""

SILENT_AT_MOST = timedelta(seconds=30)
"""Heartbeats come every five. A killed worker stays on rq's list for eight minutes."""


@contextmanager
def _translated() -> Iterator[None]:
    """Raises QueueDown for an error of the queue's server inside the block."""
    try:
        yield
    except RedisError as error:
        raise QueueDown(f"The queue cannot be reached: {error}") from error


def enqueue(chunk_ids: Iterable[int], *, bulk: bool) -> None:
    """Enqueue one job per chunk. Raises QueueDown; some may be enqueued then, which is harmless."""
    queue: Queue = django_rq.get_queue(BULK if bulk else NOW)
    jobs = [_job(WORK_CHUNK, chunk_id, name=f"chunk-{chunk_id}") for chunk_id in chunk_ids]
    with _translated():
        queue.enqueue_many(jobs)


def enqueue_refresh(asset_ids: Iterable[int]) -> None:
    """Enqueue jobs that refresh these assets, PER_JOB each, but none that is requested already, and
    nothing while WAITING_AT_MOST jobs wait.

    Raises QueueDown; some may be enqueued then, which is harmless.
    """
    queue: Queue = django_rq.get_queue(NOW)
    with _translated():
        for some in batched(asset_ids, PER_JOB):
            if queue.count >= WAITING_AT_MOST:
                break
            with queue.connection.pipeline(transaction=False) as pipeline:
                for asset_id in some:
                    pipeline.set(_refresh_key(asset_id), "1", nx=True, ex=REQUESTED_SECONDS)
                new = [i for i, is_new in zip(some, pipeline.execute(), strict=True) if is_new]
            if new:
                queue.enqueue_many([_job(REFRESH_ASSETS, new, name="refresh")])


def end_refresh(asset_ids: Iterable[int]) -> None:
    """From now on, these assets may be requested again. Raises QueueDown."""
    with _translated():
        django_rq.get_connection(NOW).delete(*map(_refresh_key, asset_ids))


def _refresh_key(asset_id: int) -> str:
    return f"thumbnails:refresh:{asset_id}"


def enqueue_cdn_purge() -> None:
    """Enqueue a job that purges the CDN. Raises QueueDown."""
    with _translated():
        django_rq.get_queue(NOW).enqueue_many([_job(PURGE_CDN, name="cdn")])


def _job(function: str, *arguments: Any, name: str) -> EnqueueData:
    return Queue.prepare_data(
        function,
        arguments,
        # Says what it is about, and is unique: rq keeps the data of a dead job.
        job_id=f"{name}-{secrets.token_hex(4)}",
        # The lease decides when a chunk is lost, and the database has all results.
        timeout=-1,
        result_ttl=0,
        failure_ttl=86_400,
    )


def enqueued_chunks() -> set[int]:
    """Returns the ids of the chunks that wait in the queue. Raises QueueDown."""
    with _translated():
        return {
            int(job_id.split("-")[1])
            for name in (NOW, BULK)
            for job_id in django_rq.get_queue(name).job_ids
            if job_id.startswith("chunk-")
        }


def is_my_turn(at: str, seconds: float) -> bool:
    """Returns True for one of all callers within `seconds`. Raises QueueDown."""
    with _translated():
        connection = django_rq.get_connection(NOW)
        return bool(connection.set(f"thumbnails:{at}", "1", nx=True, px=int(seconds * 1000)))


def take_turn(at: str, seconds: float) -> None:
    """Let `is_my_turn` return True in no process for that long. Raises QueueDown."""
    with _translated():
        django_rq.get_connection(NOW).set(f"thumbnails:{at}", "1", px=int(seconds * 1000))


def note_worker_of(recipe: str) -> None:
    """Record that a worker with that recipe is running. Raises QueueDown."""
    with _translated():
        django_rq.get_connection(NOW).set(_recipe_key(recipe), "1", ex=SILENT_AT_MOST)


def has_worker_of(recipe: str) -> bool:
    """Whether a worker with that recipe is running. Raises QueueDown."""
    with _translated():
        return bool(django_rq.get_connection(NOW).exists(_recipe_key(recipe)))


def _recipe_key(recipe: str) -> str:
    return f"thumbnails:worker-of:{recipe}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueUse:
    """The load of the queues."""

    waiting: dict[str, int]
    """Numbers of jobs by queue."""
    workers: int
    """Running workers that serve either of them."""


def use() -> QueueUse:
    """Returns the current load. Raises QueueDown."""
    with _translated():
        queues = [django_rq.get_queue(name) for name in (NOW, BULK)]
        keys = {key for queue in queues for key in Worker.all_keys(queue=queue)}
        return QueueUse(
            waiting={queue.name: queue.count for queue in queues},
            workers=sum(map(_is_live, _heartbeats(keys))),
        )


def use_if_reachable() -> QueueUse | None:
    """Returns the current load, None if the queue cannot be reached."""
    with suppress(QueueDown):
        return use()
    return None


def _heartbeats(keys: Iterable[str]) -> list[bytes | None]:
    """The workers' last heartbeats, in one round trip."""
    with django_rq.get_connection(NOW).pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hget(key, "last_heartbeat")
        heartbeats: list[bytes | None] = pipeline.execute()
        return heartbeats


def _is_live(heartbeat: bytes | None) -> bool:
    return heartbeat is not None and utcparse(heartbeat.decode()) >= timezone.now() - SILENT_AT_MOST


def ping() -> None:
    """Raises QueueDown if the queue's server does not answer."""
    with _translated():
        django_rq.get_connection(NOW).ping()

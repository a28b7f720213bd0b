"""What is kept of what happened: a run's log, an image's history, the sums over chunks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.runs import claim, start_here, start_run, work
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import NotNow
from thumbnails.models import Chunk, Run, RunEvent
from thumbnails.models.assets import HISTORY_LENGTH
from thumbnails.models.runs import progress_of
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.runs import control

pytestmark = pytest.mark.django_db

Kind = RunEvent.Kind


def log_of(run: Run) -> list[tuple[str, User | None]]:
    return [(event.kind, event.by) for event in run.events.select_related("by")]


# --- The log of a run -----------------------------------------------------------------------------


def test_log__tells_who_did_what(
    make_asset: MakeAsset, staff: User, superuser: User, queue_server: QueueServer
) -> None:
    make_asset()
    run = start_run(by=staff)
    control.cancel(run, by=superuser)
    control.resume(run, by=staff)
    control.pause(run, "because")
    control.resume(run, by=superuser)
    work(run)
    assert log_of(run) == [
        (Kind.STARTED, staff),
        (Kind.CANCELLED, superuser),
        (Kind.RESUMED, staff),
        (Kind.PAUSED, None),
        (Kind.RESUMED, superuser),
        (Kind.DONE, None),
    ]
    assert run.events.get(kind=Kind.PAUSED).detail == "because"


def test_log__has_nothing_of_what_was_refused(make_asset: MakeAsset) -> None:
    make_asset()
    work(run := start_here())
    with pytest.raises(NotNow):
        control.cancel(run)
    assert log_of(run) == [(Kind.STARTED, None), (Kind.DONE, None)]


def test_log__a_worker_that_fell_silent_is_told_once(make_asset: MakeAsset) -> None:
    make_asset()
    run = start_here()
    claim(run.chunks.get().pk)
    assert Chunk.objects.open_abandoned() == 0
    Chunk.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert Chunk.objects.open_abandoned() == 1
    assert Chunk.objects.open_abandoned() == 0
    assert "chunk 1" in run.events.get(kind=Kind.WORKER_LOST).detail


@pytest.mark.django_db(transaction=True)
def test_log__a_killed_worker_is_told(
    make_asset: MakeAsset, worker: StartWorker, queue_server: QueueServer
) -> None:
    for _ in range(3):
        make_asset()
    process = worker()
    # With this rate it waits before its second image, and has its chunk meanwhile.
    run = start_run(rate=0.5)
    wait_for(Chunk.objects.exclude(lease_until=None).exists, "a claim")
    process.kill()
    queue_server.flush()  # rq may give the next worker the same job, which then has its chunk
    Chunk.objects.exclude(lease_until=None).update(
        lease_until=timezone.now() - timedelta(seconds=1)
    )
    worker()
    wait_for(run.events.filter(kind=Kind.WORKER_LOST).exists, "the worker's loss in the log")


# --- Live workers ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_live_workers__the_dead_are_not_counted(
    worker: StartWorker, queue_server: QueueServer
) -> None:
    process = worker()
    assert queue.use().workers == 1
    process.kill()
    with queue_server.client as client:
        long_ago = (timezone.now() - queue.SILENT_AT_MOST).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        client.hset(f"rq:worker:{process.name}", "last_heartbeat", long_ago)
    assert queue.use().workers == 0


# --- The history of an image ----------------------------------------------------------------------


def test_history__tells_outcomes_reasons_and_runs_the_newest_first(make_asset: MakeAsset) -> None:
    asset = make_asset(pictures.truncated())
    work(failed := start_here())
    serving.render_now(asset.pk)
    work(purged := start_here(Run.Kind.PURGE))
    asset.refresh_from_db()
    told = [{k: v for k, v in entry.items() if k != "at"} for entry in asset.thumbnail_history]
    assert told == [
        {"outcome": "purged", "run": purged.pk},
        {"outcome": "failed", "reason": "unreadable"},
        {"outcome": "failed", "reason": "unreadable", "run": failed.pk},
    ]


def test_history__holds_the_last_ones(make_asset: MakeAsset) -> None:
    asset = make_asset()
    forced = [start_here(force=True) for _ in range(HISTORY_LENGTH + 1)]
    for run in forced:
        Run.objects.filter(pk=run.pk).update(created_at=timezone.now())
        run.refresh_from_db()
        work(run)
    asset.refresh_from_db()
    run_ids = [entry["run"] for entry in asset.thumbnail_history]
    assert len(run_ids) == 8
    assert run_ids == [run.pk for run in reversed(forced[1:])]


def test_history__a_fresh_one_that_is_left_alone_adds_nothing(make_asset: MakeAsset) -> None:
    asset = make_asset()
    work(start_here())
    work(start_here())
    asset.refresh_from_db()
    assert len(asset.thumbnail_history) == 1


# --- Sums over chunks -----------------------------------------------------------------------------


def test_progress__of_many_runs_takes_two_queries(
    make_asset: MakeAsset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    broken = [make_asset(pictures.truncated()).pk for _ in range(2)]
    make_asset()
    both = [start_here(), start_here()]
    work(both[0])
    with django_assert_num_queries(2):
        progress = progress_of(both)
    first, second = (progress[run.pk] for run in both)
    assert first.failures == {"unreadable": broken}
    assert (first.rendered, first.failed, first.done) == (1, 2, 3)
    assert (second.done, second.failures) == (0, {})
    assert first == both[0].progress()

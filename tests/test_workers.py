"""Runs through the queue: a real Valkey, a real worker process."""

from __future__ import annotations

import pytest

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_run
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import NotDispatched
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.runs import control

pytestmark = pytest.mark.django_db(transaction=True)


def is_over(run: Run) -> bool:
    run.refresh_from_db()
    return run.is_over


def test_run__is_worked_on_by_a_worker(
    make_asset: MakeAsset, worker: StartWorker, queue_server: QueueServer
) -> None:
    for _ in range(3):
        make_asset()
    make_asset(pictures.truncated())
    worker()
    run = start_run()
    wait_for(lambda: is_over(run), "the end of the run")
    assert run.state == Run.State.DONE
    assert (run.progress().rendered, run.progress().failed) == (3, 1)
    assert ImageAsset.objects.fresh().count() == 3


def test_queue_down__the_run_is_saved_and_goes_on_later(
    make_asset: MakeAsset, worker: StartWorker, queue_server: QueueServer
) -> None:
    make_asset()
    queue_server.kill()
    with pytest.raises(NotDispatched) as caught:
        start_run()
    run = caught.value.run
    assert Run.objects.get() == run
    assert run.chunks.count() == 1
    queue_server.start()
    worker()
    control.pause(run, "the queue was down")
    control.resume(run)
    wait_for(lambda: is_over(run), "the end of the run")
    assert run.progress().rendered == 1

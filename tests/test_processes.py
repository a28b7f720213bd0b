"""The site's processes under test are real, and end with their test."""

from __future__ import annotations

import os
import signal
import time

import django_rq
import pytest

from tests.conftest import MakeAsset, Manage, StartWorker
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_manage__works_on_the_tests_database(make_asset: MakeAsset, manage: Manage) -> None:
    make_asset()
    count = "from thumbnails.models import ImageAsset; print(ImageAsset.objects.count())"
    done = manage("shell", "--no-imports", "-c", count)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_worker__is_killed_with_the_horse_that_it_left_behind(worker: StartWorker) -> None:
    started = worker()
    django_rq.get_queue("thumbnails-now").enqueue(time.sleep, 600)
    wait_for(started.horses, "the horse")
    os.kill(started.pid, signal.SIGKILL)
    wait_for(lambda: not started.running, "the worker's end")
    assert started.horses()
    started.kill()
    assert not started.horses()

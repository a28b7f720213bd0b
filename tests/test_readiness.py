"""Whether the site can serve is told in bounded time, whatever hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.upkeep.reports import readiness
from thumbnails.upkeep.reports.readiness import Dependency, reachable

pytestmark = pytest.mark.django_db(transaction=True)

ALL_WELL = dict.fromkeys(Dependency, True)


class LostMount:
    """In the place of the cache's check: hangs, as a call for a file of a lost mount does."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        self.back.wait()


@pytest.fixture
def lost_mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[LostMount]:
    mount = LostMount()
    monkeypatch.setattr("thumbnails.upkeep.reports.readiness.cache.check_reachable", mount)
    monkeypatch.setattr(readiness, "LIMIT_SECONDS", 0.5)
    yield mount
    mount.back.set()
    wait_for(lambda: reachable()[Dependency.CACHE], "the thread's end")


def test_reachable__leaves_no_threads(queue_server: QueueServer) -> None:
    before = threading.active_count()
    for _ in range(3):
        assert reachable() == ALL_WELL
    wait_for(lambda: threading.active_count() <= before, "the end of the threads")


def test_cache_hangs__is_told_by_one_thread(
    queue_server: QueueServer, lost_mount: LostMount
) -> None:
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: reachable(), range(10)))
    assert not any(answer[Dependency.CACHE] for answer in answers)
    assert lost_mount.calls == 1
    lost_mount.back.set()
    wait_for(lambda: reachable() == ALL_WELL, "the cache's answer")


def test_queue_hangs__is_told(queue_server: QueueServer) -> None:
    with queue_server.hanging():
        assert reachable() == {**ALL_WELL, Dependency.QUEUE: False}
    wait_for(lambda: reachable() == ALL_WELL, "the queue's answer")


def test_what_is_away__is_told(queue_server: QueueServer, thumbnail_dir: Path) -> None:
    queue_server.kill()
    thumbnail_dir.write_text("a file where the folder should be")
    assert reachable() == {
        Dependency.DATABASE: True,
        Dependency.QUEUE: False,
        Dependency.CACHE: False,
    }


def test_error_of_the_program__is_raised(
    queue_server: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("thumbnails.upkeep.reports.readiness.cache.check_reachable", broken)
    with pytest.raises(ZeroDivisionError):
        reachable()

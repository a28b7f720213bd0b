"""Stale thumbnails: served as they are, and refreshed by the workers behind the requests."""

from __future__ import annotations

import threading
from http import HTTPStatus
from pathlib import Path

import django_rq
import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails import jobs
from thumbnails.exceptions import Busy, Reason
from thumbnails.models import ImageAsset, State
from thumbnails.models.recipes import own_recipe
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import background, serving


@pytest.fixture
def stale(client: Client, make_asset: MakeAsset, settings: Settings) -> ImageAsset:
    """Its thumbnail was made with another size."""
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)))
    client.get(asset.thumbnail_url)
    settings.THUMBNAIL_SIZE = 100
    asset.refresh_from_db()
    assert asset.state == State.STALE
    return asset


def jobs_waiting() -> list[list[int]]:
    """The assets of each job."""
    return [job.args[0] for job in django_rq.get_queue(queue.NOW).jobs]


def side_of(content: bytes) -> int:
    return max(pictures.opened(content).size)


def path_of(asset: ImageAsset) -> str:
    return asset.thumbnail_url.partition("?")[0]


def test_address__names_what_is_there(
    client: Client, make_asset: MakeAsset, settings: Settings
) -> None:
    asset = make_asset()
    assert asset.thumbnail_url == f"{path_of(asset)}?v={asset.fingerprint}"
    client.get(asset.thumbnail_url)
    asset.refresh_from_db()
    made = asset.fingerprint
    assert asset.thumbnail_url == f"{path_of(asset)}?v={made}"
    settings.THUMBNAIL_SIZE = 100
    assert asset.fingerprint != made
    assert asset.thumbnail_url == f"{path_of(asset)}?v={made}&stale=1"
    ImageAsset.objects.update(thumbnail_error=Reason.UNREADABLE)
    asset.refresh_from_db()
    assert asset.thumbnail_url == f"{path_of(asset)}?v={made}&stale=1"


@pytest.mark.parametrize("address", ["its own", "bare", "of before", "of the fresh one"])
def test_stale__is_served_as_it_is_and_fresh_as_soon_as_a_worker_had_it(
    client: Client, queue_server: QueueServer, stale: ImageAsset, address: str
) -> None:
    url = {
        "its own": stale.thumbnail_url,
        "bare": path_of(stale),
        "of before": f"{path_of(stale)}?v={stale.recorded_fingerprint}&stale=1&x",
        "of the fresh one": f"{path_of(stale)}?v={stale.fingerprint}",
    }[address]
    old = client.get(url)
    assert side_of(old.content) == 256
    assert old["Cache-Control"] == "public, no-cache"
    assert client.get(url, headers={"If-None-Match": old["ETag"]}).status_code == 304
    wait_for(lambda: jobs_waiting() == [[stale.pk]], "the job")

    jobs.refresh_assets([stale.pk])
    new = client.get(url, headers={"If-None-Match": old["ETag"]})
    assert side_of(new.content) == 100
    stale.refresh_from_db()
    assert stale.state == State.FRESH
    for_ever = address == "of the fresh one"
    assert ("immutable" in new["Cache-Control"]) == for_ever


def test_stale__by_its_address_needs_no_query(
    client: Client,
    queue_server: QueueServer,
    stale: ImageAsset,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        assert side_of(client.get(stale.thumbnail_url).content) == 256


def test_stale__by_its_original_is_served_as_it_is(
    client: Client, queue_server: QueueServer, make_asset: MakeAsset
) -> None:
    asset = make_asset(name="a.jpg")
    before = client.get(asset.thumbnail_url).content
    make_asset(pictures.jpeg(pictures.scene(50, 200)), name="a.jpg")
    asset.refresh_from_db()
    assert client.get(asset.thumbnail_url).content == before
    jobs.refresh_assets([asset.pk])
    assert pictures.opened(client.get(asset.thumbnail_url).content).size == (50, 200)


def test_stale__is_requested_once_however_many_ask(
    queue_server: QueueServer, stale: ImageAsset, make_asset: MakeAsset
) -> None:
    other = make_asset()

    def ask() -> None:
        process = background.Requests()
        for _ in range(3):
            process.add(stale.pk)
        process.add(other.pk)
        wait_for(lambda: not process.is_sending, "the end of the thread that sends")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(i for ids in jobs_waiting() for i in ids) == sorted([stale.pk, other.pk])

    for ids in jobs_waiting():
        jobs.refresh_assets(ids)
    before = len(jobs_waiting())
    ask()
    assert jobs_waiting()[before:] == [[stale.pk, other.pk]]


def test_queue__does_not_grow_while_no_worker_is_running(
    queue_server: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "WAITING_AT_MOST", 2)
    queue.enqueue_refresh(range(1, 3 * queue.PER_JOB + 1))
    queue.enqueue_refresh([1000])
    assert [len(ids) for ids in jobs_waiting()] == [queue.PER_JOB] * 2
    queue_server.flush()
    queue.enqueue_refresh([1000])
    assert jobs_waiting() == [[1000]]


def test_stale__is_served_with_the_queue_down(client: Client, stale: ImageAsset) -> None:
    for url in (stale.thumbnail_url, path_of(stale)):
        assert side_of(client.get(url).content) == 256


def test_job__leaves_alone_what_failed_for_good_and_what_is_gone(
    queue_server: QueueServer, stale: ImageAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageAsset.objects.update(
        thumbnail_error=Reason.CRASHED,
        thumbnail_error_recipe=own_recipe().digest,
        thumbnail_error_source=stale.source_version,
    )
    reads: list[str] = []
    monkeypatch.setattr(originals, "read", reads.append)
    jobs.refresh_assets([stale.pk, stale.pk + 1])
    assert reads == []


def test_job__ends_where_the_originals_are_away(
    queue_server: QueueServer, stale: ImageAsset, make_asset: MakeAsset, originals_dir: Path
) -> None:
    second = make_asset()
    originals_dir.rename(originals_dir.with_name("aside"))
    jobs.refresh_assets([stale.pk, second.pk])
    second.refresh_from_db()
    assert second.thumbnail_error == ""
    # Both may be requested again.
    queue.enqueue_refresh([stale.pk, second.pk])
    assert jobs_waiting() == [[stale.pk, second.pk]]


def test_missing__that_cannot_be_rendered_now_is_rendered_soon(
    client: Client,
    queue_server: QueueServer,
    make_asset: MakeAsset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asset = make_asset()

    def busy(*_: object, **__: object) -> None:
        raise Busy("Other pictures are being rendered.")

    monkeypatch.setattr(serving, "_render", busy)
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.SERVICE_UNAVAILABLE
    wait_for(lambda: jobs_waiting() == [[asset.pk]], "the job")
    jobs.refresh_assets([asset.pk])
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


@pytest.mark.django_db(transaction=True)
def test_worker__refreshes_what_visitors_look_at(
    client: Client, worker: StartWorker, stale: ImageAsset
) -> None:
    worker(THUMBNAIL_SIZE="100")
    url = stale.thumbnail_url
    assert side_of(client.get(url).content) == 256
    wait_for(lambda: side_of(client.get(url).content) == 100, "the refreshed thumbnail")
    assert cache.read(stale.thumbnail_name) == client.get(url).content
    assert client.get(url).status_code == HTTPStatus.OK

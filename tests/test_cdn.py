"""Purging a CDN, which a server on loopback stands for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import django_rq
import pytest
from django.apps import apps
from django.utils import timezone
from django.utils.http import http_date
from pytest_django import Settings

from tests.conftest import MakeAsset, StartWorker
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import QueueDown
from thumbnails.models import CdnPurge
from thumbnails.signals import thumbnails_changed
from thumbnails.upkeep import cdn, queue
from thumbnails.upkeep.images import freshness, pools

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "https://img.example.org"


class Cdn:
    """Keeps the requests that it gets, and answers with the next of `answers`, else with 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.is_hanging = False
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def purged(self) -> list[str]:
        """The addresses, in order of the requests."""
        return [url for *_, body in self.requests for url in body["files"]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cdn = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                read = json.loads(body) if body else None
                cdn.requests.append((self.command, self.path, dict(self.headers), read))
                if cdn.is_hanging:
                    cdn.released.wait()
                status, headers = cdn.answers.pop(0) if cdn.answers else (200, {})
                self.send_response(status)
                for name, value in {"Content-Length": "2", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_PURGE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def far_cdn() -> Iterator[Cdn]:
    far = Cdn()
    thread = threading.Thread(target=far.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield far
    far.released.set()
    far.server.shutdown()
    thread.join()
    far.server.server_close()


@pytest.fixture
def api(far_cdn: Cdn, settings: Settings, queue_server: QueueServer) -> Cdn:
    """One that is told by an API what to purge."""
    settings.THUMBNAIL_CDN = ORIGIN
    settings.THUMBNAIL_CDN_API = f"{far_cdn.url}/zones/7/purge_cache"
    settings.THUMBNAIL_CDN_TOKEN = "only-for-the-tests"
    return far_cdn


def jobs() -> list[str]:
    return [str(job.func_name) for job in django_rq.get_queue(queue.NOW).jobs]


def test_api__is_told_each_address_once(api: Cdn, make_asset: MakeAsset) -> None:
    asset = make_asset()
    apps.get_app_config("thumbnails").ready()  # as at the start of a process with these settings
    try:
        for _ in range(2):
            freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
            freshness.purge_now(asset.pk)
    finally:
        thumbnails_changed.disconnect(cdn.record)
    cdn.purge()
    url, _, _ = asset.thumbnail_url.partition("?")
    addresses = [f"{ORIGIN}{url}", f"{ORIGIN}{url}?v={asset.fingerprint}"]
    [(method, path, headers, body)] = api.requests
    assert (method, path, body) == ("POST", "/zones/7/purge_cache", {"files": addresses})
    assert headers["Authorization"] == "Bearer only-for-the-tests"
    cdn.purge()
    assert len(api.requests) == 1


def test_api__is_told_of_many_in_requests_of_limited_size(api: Cdn) -> None:
    urls = [f"/thumbnails/aa/{number}.jpg" for number in range(250)]
    cdn.record(urls[:1])
    cdn.record(urls[1:])
    cdn.purge()
    assert api.purged == [f"{ORIGIN}{url}" for url in urls]
    assert max(len(body["files"]) for *_, body in api.requests) <= cdn.PER_REQUEST


def test_job__leaves_the_rest_to_the_next_one_after_a_while(
    api: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdn, "JOB_SECONDS", 0)
    cdn.record([f"/{number}" for number in range(2 * cdn.PER_REQUEST)])
    cdn.purge()
    assert len(api.purged) == cdn.PER_REQUEST
    cdn.purge()
    assert len(api.purged) == 2 * cdn.PER_REQUEST
    assert not CdnPurge.objects.exists()


@pytest.mark.parametrize("answer", [500, 403, 302])
def test_failure__is_tried_again(api: Cdn, caplog: pytest.LogCaptureFixture, answer: int) -> None:
    cdn.record(["/a"])
    api.answers = [(answer, {"Location": "/elsewhere"})]
    cdn.purge()
    assert len(api.requests) == 1
    assert f"1 addresses are purged again in 5 s: It answered POST with status {answer}" in (
        caplog.text
    )
    cdn.enqueue_in_turn()
    assert jobs() == []  # it is left alone for a while
    cdn.record(["/b"])
    cdn.purge()
    assert api.purged[1:] == [f"{ORIGIN}/a", f"{ORIGIN}/b"]
    assert not CdnPurge.objects.exists()


@pytest.mark.parametrize(
    ("retry_after", "failing", "seconds"),
    [
        ("120", timedelta(), 120),
        ("120", timedelta(minutes=4), 240),
        (http_date(timezone.now().timestamp() + 7200), timedelta(), 3600),
        ("soon", timedelta(hours=4), 300),
    ],
)
def test_failure__is_tried_again_when_the_cdn_asks_for_it_or_later_each_time(
    api: Cdn, retry_after: str, failing: timedelta, seconds: int
) -> None:
    cdn.record(["/a"])
    CdnPurge.objects.update(created_at=timezone.now() - failing)
    api.answers = [(429, {"Retry-After": retry_after})]
    cdn.purge()
    left = django_rq.get_connection(queue.NOW).pttl(f"thumbnails:{cdn.TURN}") / 1000
    assert seconds - 30 < left < seconds + 30


def test_failure__drops_what_is_old(api: Cdn, caplog: pytest.LogCaptureFixture) -> None:
    cdn.record(["/old"])
    CdnPurge.objects.update(created_at=timezone.now() - timedelta(days=8))
    cdn.record(["/new"])
    api.answers = [(500, {})]
    cdn.purge()
    assert [row.urls for row in CdnPurge.objects.all()] == [["/new"]]
    assert "1 batches of addresses were not purged for 7 days" in caplog.text


def test_cdn__that_hangs_or_is_away_fails(
    api: Cdn, monkeypatch: pytest.MonkeyPatch, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cdn, "TIMEOUT_SECONDS", 0.2)
    api.is_hanging = True
    cdn.record(["/a"])
    cdn.purge()
    assert "does not answer POST: TimeoutError" in caplog.text
    settings.THUMBNAIL_CDN_API = "http://127.0.0.1:1/"
    cdn.purge()
    assert "ConnectionRefusedError" in caplog.text
    assert CdnPurge.objects.count() == 1


def test_changes_meanwhile__are_purged_again(api: Cdn, monkeypatch: pytest.MonkeyPatch) -> None:
    cdn.record(["/a"])
    send = cdn._send  # noqa: SLF001

    def send_and_change(urls: Any) -> None:
        send(urls)
        if len(api.requests) == 1:
            cdn.record(["/a"])

    monkeypatch.setattr(cdn, "_send", send_and_change)
    cdn.purge()
    assert api.purged == [f"{ORIGIN}/a"] * 2


def test_queue_down__loses_nothing(api: Cdn, queue_server: QueueServer) -> None:
    queue_server.kill()
    cdn.record(["/a"])
    with pytest.raises(QueueDown):
        cdn.enqueue_in_turn()
    cdn.purge()  # by a job that was begun before
    assert api.purged == [f"{ORIGIN}/a"]
    cdn.record(["/b"])
    queue_server.start()
    cdn.enqueue_in_turn()
    cdn.enqueue_in_turn()
    assert jobs() == [queue.PURGE_CDN]


def test_purge_requests__are_sent_to_the_addresses_themselves(
    far_cdn: Cdn, worker: StartWorker
) -> None:
    """As to Varnish, by a worker. One has a copy, one has not."""
    cdn.record(["/a.jpg", "/a.jpg?v=0123456789abcdef"])
    far_cdn.answers = [(404, {}), (200, {})]
    worker(THUMBNAIL_CDN=far_cdn.url, THUMBNAIL_CDN_TOKEN="Fastly-Key: secret")
    wait_for(lambda: not CdnPurge.objects.exists(), "the purge")
    assert [request[:2] for request in far_cdn.requests] == [
        ("PURGE", "/a.jpg"),
        ("PURGE", "/a.jpg?v=0123456789abcdef"),
    ]
    assert {request[2]["Fastly-Key"] for request in far_cdn.requests} == {"secret"}

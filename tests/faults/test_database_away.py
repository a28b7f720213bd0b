"""PostgreSQL is away, or it and the queue hang, under a real web server."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
from django.db import connection

from tests.processes import run_command, start_python
from tests.servers import PostgresServer, QueueServer
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="has a PostgreSQL of its own: once is enough"
)

BOUND_SECONDS = 60.0
"""Generous; DATABASE_SECONDS is 2 here."""

GALLERY, THUMBNAIL, ADMIN = "/", "/thumbnails/82/12345.jpg", "/admin/thumbnails/imageasset/"
API, READYZ, HEALTHZ = "/api/v1/images/12345/thumbnail", "/api/v1/readyz", "/api/v1/healthz"
WHEN_WELL = {
    GALLERY: HTTPStatus.OK,
    THUMBNAIL: HTTPStatus.NOT_FOUND,
    ADMIN: HTTPStatus.FOUND,  # to the login: the session is unknown
    API: HTTPStatus.NOT_FOUND,
    READYZ: HTTPStatus.OK,
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Site:
    """A site of its own: its servers, and gunicorn in front of them."""

    postgres: PostgresServer
    queue: QueueServer
    port: int

    def get(self, path: str) -> Answer:
        """As a browser with a session asks."""
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_SECONDS)
        try:
            asking.request("GET", path, headers={"Cookie": f"sessionid={'a' * 32}"})
            response = asking.getresponse()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read().decode(),
            )
        finally:
            asking.close()

    def statuses(self) -> dict[str, int]:
        return {path: self.get(path).status for path in WHEN_WELL}

    def is_well(self) -> bool:
        return self.statuses() == WHEN_WELL

    def is_up(self) -> bool:
        with suppress(OSError):
            return self.get(HEALTHZ).status == HTTPStatus.OK
        return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with PostgresServer() as postgres, QueueServer() as queue:
        environment = {
            **os.environ,
            "DATABASE_URL": postgres.url,
            "DATABASE_SECONDS": "2",
            "REDIS_URL": queue.url,
            "THUMBNAIL_DIR": str(tmp_path / "thumbnails"),
            "ORIGINALS_DIR": str(tmp_path / "originals"),
        }
        migrated = run_command(["migrate", "--verbosity=0"], environment)
        assert migrated.returncode == 0, migrated.stderr
        with _gunicorn(environment, tmp_path / "web.log") as port:
            site = Site(postgres, queue, port)
            wait_for(site.is_up, "gunicorn")
            assert site.statuses() == WHEN_WELL
            yield site


@contextmanager
def _gunicorn(environment: dict[str, str], log: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1"]
    options += ["--threads", "4", "--graceful-timeout", "3", "--no-control-socket"]
    process = start_python(["-m", "gunicorn", "thumbsite.wsgi", *options], environment, log)
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def check_503(site: Site) -> None:
    """Each address says in its own way that the database is away, and when to come back."""
    media_types = {GALLERY: "text/html", THUMBNAIL: "text/plain", ADMIN: "text/html"}
    problems = dict.fromkeys((API, READYZ), "application/problem+json")
    expected = {**media_types, **problems}
    with ThreadPoolExecutor(len(expected)) as pool:
        answers = list(pool.map(site.get, expected))
    for (path, media_type), answer in zip(expected.items(), answers, strict=True):
        assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE, (path, answer)
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"].partition(";")[0] == media_type
        assert "database" in answer.body
        assert not re.search(r"Traceback|psycopg|Error", answer.body)
        if path in media_types:
            assert answer.headers["cache-control"] == "no-store"


def test_postgres__is_killed_and_comes_back(site: Site) -> None:
    site.postgres.kill()
    check_503(site)
    assert site.get(HEALTHZ).status == HTTPStatus.OK
    site.postgres.start()
    wait_for(site.is_well, "the site to work again")


def test_queue__hangs_and_goes_on(site: Site) -> None:
    with site.queue.hanging():
        for _ in range(2):
            answer = site.get(READYZ)
            assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
            assert json.loads(answer.body)["detail"] == "No answer from: queue."
        assert site.get(GALLERY).status == HTTPStatus.OK
    wait_for(site.is_well, "the site to work again")


def test_everything__hangs_and_goes_on(site: Site) -> None:
    with site.postgres.hanging(), site.queue.hanging():
        answer = site.get(READYZ)
        assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert json.loads(answer.body)["detail"] == "No answer from: database and queue."
        assert site.get(HEALTHZ).status == HTTPStatus.OK
    wait_for(site.is_well, "the site to work again")


def test_postgres__hangs_and_goes_on(site: Site) -> None:
    with site.postgres.hanging():
        for _ in range(2):  # through connections that were there, and without any
            check_503(site)
        assert site.get(HEALTHZ).status == HTTPStatus.OK
    wait_for(site.is_well, "the site to work again")

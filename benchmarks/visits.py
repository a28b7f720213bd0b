"""What visitors wait for after a change of recipe, when all thumbnails are stale."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from http import HTTPStatus
from pathlib import Path

from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure, Site
from benchmarks.webserver import Client, WebServer, request_for, workers_are_idle
from tests.servers import PostgresServer, QueueServer
from tests.waiting import wait_for

READERS = 16
MEDIAN_BOUND = Bound(at_most=1.5)
TAIL_BOUND = Bound(at_most=3)
QUALITIES = (84, 85)
"""By turns: each is another recipe than the one before."""
WAITING = "rq:queue:thumbnails-now"
ADDRESS = re.compile(r'<img src="(/thumbnails/[^"]+)"')
PER_PAGE = 100


@dataclass(frozen=True, slots=True)
class Visit:
    """The latencies of all readers, in seconds."""

    latencies: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)

    @property
    def tail(self) -> float:
        """The 99th percentile."""
        return statistics.quantiles(self.latencies, n=100)[98]


def measure(
    home: Path, photos: Sequence[Path], *, thumbnails: int, rounds: int, judged: bool
) -> Section:
    """With gunicorn and a worker as in the Procfile, PostgreSQL and a queue.

    Each round starts them with another recipe, reads all stale thumbnails once, mends them, and
    reads them again.
    """
    with PostgresServer() as database, QueueServer() as queue:
        site = VisitedSite(home, database, queue)
        site.fill(photos, thumbnails)
        visits = [_round(site, number, thumbnails) for number in range(rounds)]
    return Section(
        title=f"First visits of {thumbnails:,} stale thumbnails by {READERS} readers",
        rows=_rows(visits, judged=judged),
    )


class VisitedSite:
    """A site with its own servers."""

    def __init__(self, home: Path, database: PostgresServer, queue: QueueServer) -> None:
        home.mkdir()
        self._home = home
        self._site = Site(home)
        self._queue = queue
        self._servers = {"DATABASE_URL": database.url, "REDIS_URL": queue.url}

    def fill(self, photos: Sequence[Path], count: int) -> None:
        """With links to the photos, and thumbnails of the recipe before the first round's."""
        self._site.add_originals(photos, count=count)
        self._manage("migrate", "--verbosity=0")
        self._manage("import_images", str(self._site.originals))
        self._manage("regenerate_thumbnails", THUMBNAIL_QUALITY=str(QUALITIES[-1]))

    def mend(self, quality: int) -> None:
        """Render whatever is not fresh, and wait until the worker has nothing left to do."""
        self._manage("regenerate_thumbnails", THUMBNAIL_QUALITY=str(quality))
        self._wait_for_worker()

    @contextmanager
    def running(self, quality: int) -> Iterator[WebServer]:
        settings = self._servers | {"THUMBNAIL_QUALITY": str(quality)}
        environment = self._site.environment() | settings
        queues = "thumbnails-now", "thumbnails-bulk", "default"
        with (
            WebServer(environment, self._home / "web.log", processes=2) as server,
            self._site.started("rqworker", *queues, **settings) as worker,
        ):
            self._wait_for_worker()
            yield server
            worker.terminate()

    def _wait_for_worker(self) -> None:
        with self._queue.client as client:
            wait_for(
                lambda: not client.exists(WAITING) and workers_are_idle(client),
                "a worker without jobs",
            )

    def _manage(self, *arguments: str, **settings: str) -> None:
        with self._site.started(*arguments, **self._servers, **settings):
            pass


def _round(site: VisitedSite, number: int, thumbnails: int) -> tuple[Visit, Visit]:
    """The visits of stale and of fresh thumbnails."""
    quality = QUALITIES[number % len(QUALITIES)]
    with site.running(quality) as server:
        stale = _visit(server.port, thumbnails, are_stale=True)
        site.mend(quality)
        fresh = _visit(server.port, thumbnails, are_stale=False)
    return stale, fresh


def _visit(port: int, thumbnails: int, *, are_stale: bool) -> Visit:
    addresses = _addresses(port, thumbnails)
    begin = threading.Barrier(READERS)

    def read(number: int) -> list[float]:
        latencies = []
        begin.wait()
        with Client(port) as client:
            client.get(request_for("/thumbnails/00/0.jpg"))  # unknown; the connection is open then
            for address in addresses[number::READERS]:
                request = request_for(address)
                started_at = time.perf_counter()
                answer = client.get(request)
                latencies.append(time.perf_counter() - started_at)
                may_be_cached = "immutable" in answer.headers.get("cache-control", "")
                if answer.status != HTTPStatus.OK or may_be_cached == are_stale:
                    raise NothingToMeasure(f"{address} answers {answer}.")
        return latencies

    with ThreadPoolExecutor(READERS) as threads:
        return Visit([each for found in threads.map(read, range(READERS)) for each in found])


def _addresses(port: int, thumbnails: int) -> list[str]:
    """As the gallery's pages have them."""
    found: list[str] = []
    with Client(port) as client:
        for page in range(1, thumbnails // PER_PAGE + 1):
            found += ADDRESS.findall(client.read(f"/?page={page}"))
    if len(set(found)) != thumbnails:
        raise NothingToMeasure(f"The gallery has {len(set(found))} thumbnails.")
    return [unescape(address) for address in found]


def _rows(visits: Sequence[tuple[Visit, Visit]], *, judged: bool) -> list[Row]:
    medians = [(stale.median, fresh.median) for stale, fresh in visits]
    tails = [(stale.tail, fresh.tail) for stale, fresh in visits]
    return [
        _row("median", "the median, stale to fresh", medians, MEDIAN_BOUND, judged=judged),
        _row("tail", "the 99th percentile, stale to fresh", tails, TAIL_BOUND, judged=judged),
    ]


def _row(
    key: str, label: str, pairs: Sequence[tuple[float, float]], bound: Bound, *, judged: bool
) -> Row:
    """`pairs` are seconds of stale and of fresh ones, of each round."""
    return Row(
        key=f"visits.{key}_ratio",
        label=f"{label}; median of {len(pairs)} rounds",
        value=statistics.median(stale / fresh for stale, fresh in pairs),
        unit="×",
        digits=2,
        bound=bound,
        judged=judged,
        note=", ".join(f"{stale * 1000:.1f} ms to {fresh * 1000:.1f}" for stale, fresh in pairs),
    )

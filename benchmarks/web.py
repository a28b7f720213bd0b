"""The web server: the cost of hits on a real gunicorn, and the effect of hostile images."""

import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from benchmarks.hostile import MEBIBYTE, slow_jpeg, write_vast_png
from benchmarks.meters import Peak, Usage, cpu_seconds, metered, peaks
from benchmarks.report import Bound, Row, Section
from benchmarks.running import empty
from benchmarks.site import NothingToMeasure, Site
from benchmarks.webserver import (
    THREADS,
    Client,
    WebServer,
    ask_once,
    request_for,
    workers_are_idle,
)
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails import conf
from thumbnails.models import ImageAsset
from thumbnails.rendering import Recipe, Spool
from thumbnails.rendering.pool import Limits, RenderPool
from thumbnails.upkeep.images import freshness, importing, pools

HIT_BOUND = Bound(at_least=0.8)
NOT_MODIFIED_BOUND = Bound(at_least=0.9)
CROWD_BOUND = Bound(at_most=1)
TAIL_BOUND = Bound(at_most=3)
MEMORY_BOUND = Bound(at_most=250)
RENDER_MEMORY_BOUND = Bound(at_most=1)

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "benchmarks.web_settings",
    "THUMBNAIL_RENDER_SECONDS": "30",
}
SLOW_REQUESTS = 20
VAST_PICTURES = 8
CROWD = 200
HIT_EVERY_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured."""

    batches: int = 20
    """Of requests of each kind, by turns."""
    batch: int = 200
    tail_seconds: float = 20
    """How long hits are requested: first alone, then during slow renders."""
    slow_seconds: float = 20
    vast_pixels: int = 200_000_000
    starts: int = 3
    is_whole: bool = True
    """False if the bounds apply to more than this."""


WHOLE = Extent()
QUICK = Extent(
    batches=5,
    batch=100,
    tail_seconds=4,
    slow_seconds=5,
    vast_pixels=30_000_000,
    starts=1,
    is_whole=False,
)


def measure(home: Path, here: Site, photo: Path, extent: Extent) -> Section:
    """With this process's own site, whose images are deleted."""
    home.mkdir()
    hit = _hit(here, photo)
    constant = shutil.copy(here.thumbnails / hit.thumbnail_path, home)
    environment = here.environment() | SETTINGS | {"BENCHMARK_THUMBNAIL": str(constant)}
    with WebServer(environment, home / "hits.log") as server:
        rows = [*_hits(server, hit, extent), *_tail(server, hit, home, extent)]
    with WebServer(environment, home / "memory.log") as server:
        rows += _memory(server, hit, home, extent)
    rows.append(_crowd(environment, hit, home))
    rows += _starts(home / "starting", photo, extent.starts)
    return Section(title=f"The web: gunicorn, one process of {THREADS} threads", rows=rows)


def _hit(here: Site, photo: Path) -> ImageAsset:
    """An image whose thumbnail is in the cache."""
    empty(here)
    asset = importing.import_file(photo)
    freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
    asset.refresh_from_db()
    if not asset.thumbnail_path:
        raise NothingToMeasure(f"The photo was not rendered: {asset.thumbnail_error_detail}")
    return asset


def _statuses(answers: Sequence[int]) -> str:
    counted = {status: answers.count(status) for status in sorted(set(answers))}
    return ", ".join(f"{number} × {status}" for status, number in counted.items())


# --- a. The cost of a hit -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one request."""

    cpu_seconds: float
    """Of the server."""
    wall_seconds: float


def _hits(server: WebServer, hit: ImageAsset, extent: Extent) -> list[Row]:
    with Client(server.port) as client:
        etag = client.expect(HTTPStatus.OK, hit.thumbnail_url).headers["etag"]
        client.expect(HTTPStatus.NOT_MODIFIED, hit.thumbnail_url, If_None_Match=etag)
    requests = {
        "hit": request_for(hit.thumbnail_url),
        "not_modified": request_for(hit.thumbnail_url, {"If_None_Match": etag}),
        "constant": request_for("/constant.jpg"),
    }
    costs = _by_turns(server, requests, extent)
    return [
        _cost_ratio("hit", "a hit", costs, HIT_BOUND, judged=extent.is_whole),
        _cost_ratio("not_modified", "a 304", costs, NOT_MODIFIED_BOUND, judged=extent.is_whole),
        _rate("hit", "hits a second over one connection", costs),
        _rate("not_modified", "304 a second", costs),
        _rate("constant", "of the bare view", costs),
    ]


def _by_turns(server: WebServer, requests: dict[str, bytes], extent: Extent) -> dict[str, Cost]:
    """The medians over the batches."""
    found: dict[str, list[Cost]] = {key: [] for key in requests}
    with Client(server.port) as client:
        for number in range(extent.batches + 1):
            for key, request in requests.items():
                cost = _cost(server, client, request, extent.batch)
                if number:  # the first ones warm up
                    found[key].append(cost)
    return {
        key: Cost(
            cpu_seconds=statistics.median(cost.cpu_seconds for cost in costs),
            wall_seconds=statistics.median(cost.wall_seconds for cost in costs),
        )
        for key, costs in found.items()
    }


def _cost(server: WebServer, client: Client, request: bytes, count: int) -> Cost:
    cpu, wall = cpu_seconds(server.worker), time.perf_counter()
    for _ in range(count):
        client.get(request)
    wall = time.perf_counter() - wall
    return Cost(cpu_seconds=(cpu_seconds(server.worker) - cpu) / count, wall_seconds=wall / count)


def _cost_ratio(key: str, what: str, costs: dict[str, Cost], bound: Bound, *, judged: bool) -> Row:
    ours, bare = costs[key].cpu_seconds, costs["constant"].cpu_seconds
    return Row(
        key=f"web.constant_over_{key}",
        label=f"a bare view with the same bytes, to {what}",
        value=bare / ours,
        unit="× CPU",
        digits=2,
        bound=bound,
        judged=judged,
        note=f"{bare * 1e6:.0f} µs of the server's CPU to {ours * 1e6:.0f}",
    )


def _rate(key: str, label: str, costs: dict[str, Cost]) -> Row:
    return Row(
        key=f"web.{key}_per_s",
        label=label,
        value=1 / costs[key].wall_seconds,
        unit="/s",
        digits=0,
    )


# --- b. Hits during slow renders ----------------------------------------------------------------


def _tail(server: WebServer, hit: ImageAsset, home: Path, extent: Extent) -> list[Row]:
    """The 99th percentile of hits, alone and while a slow image is rendered."""
    path = home / "slow.jpg"
    path.write_bytes(slow_jpeg(_pixels_for(extent.slow_seconds)))
    slow = importing.import_file(path)
    with metered() as alone:
        quiet = _latencies(server.port, hit, extent.tail_seconds)
    with metered() as beside, _asked_at_once(server, [slow] * SLOW_REQUESTS) as answers:
        busy = _latencies(server.port, hit, extent.tail_seconds)
    ratio = _percentile(busy) / _percentile(quiet)
    others = max(alone.others_cores, beside.others_cores)
    return [
        _tail_row("quiet", "a hit's 99th percentile, alone", quiet, alone),
        _tail_row("busy", f"beside a picture of {extent.slow_seconds:g} s", busy, beside),
        Row(
            key="web.busy_over_quiet",
            label=f"the ratio, with {SLOW_REQUESTS} requests for that picture",
            value=ratio,
            unit="×",
            bound=TAIL_BOUND,
            judged=extent.is_whole,
            note=f"they got {_statuses(answers)}; others kept {others:.2f} cores busy",
        ),
    ]


def _pixels_for(seconds: float) -> int:
    """The number of pixels of a `slow_jpeg` that takes that long here."""
    limits = Limits(seconds=60, memory_bytes=conf.current().render_memory_bytes)
    few, more = 4_000_000, 36_000_000
    with RenderPool(1, limits) as pool:
        _seconds_for(pool, few)  # starts its process
        rate = (more - few) / (_seconds_for(pool, more) - _seconds_for(pool, few))
    return int(rate * seconds)


def _seconds_for(pool: RenderPool, pixels: int) -> float:
    with Spool.of(slow_jpeg(pixels)) as spool:
        started_at = time.perf_counter()
        pool.render(spool, Recipe(), name="slow.jpg", fingerprint="", max_pixels=pixels)
        return time.perf_counter() - started_at


@contextmanager
def _asked_at_once(server: WebServer, assets: Sequence[ImageAsset]) -> Iterator[list[int]]:
    """Request all of them at once; yields the list of statuses, filled when the block ends."""
    together = threading.Barrier(len(assets) + 1)

    def ask(path: str) -> int:
        together.wait()
        return ask_once(server.port, path)

    statuses: list[int] = []
    with ThreadPoolExecutor(len(assets)) as threads:
        asked = [threads.submit(ask, asset.thumbnail_url) for asset in assets]
        together.wait()
        yield statuses
        statuses += [future.result() for future in asked]


def _latencies(port: int, hit: ImageAsset, seconds: float) -> list[float]:
    """Of hits at a constant rate, each measured from when it is due.

    So requests that are delayed because the server is stuck count as late, too.
    """
    request = request_for(hit.thumbnail_url)
    latencies = []
    with Client(port) as client:
        client.get(request)
        began = time.perf_counter()
        for number in range(round(seconds / HIT_EVERY_SECONDS)):
            due = began + number * HIT_EVERY_SECONDS
            time.sleep(max(0.0, due - time.perf_counter()))
            if client.get(request).status != HTTPStatus.OK:
                raise NothingToMeasure("A hit was refused.")
            latencies.append(time.perf_counter() - due)
    return latencies


def _percentile(latencies: Sequence[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


def _tail_row(key: str, label: str, latencies: Sequence[float], usage: Usage) -> Row:
    median, most = statistics.median(latencies) * 1000, max(latencies) * 1000
    return Row(
        key=f"web.hit_p99_{key}_ms",
        label=label,
        value=_percentile(latencies) * 1000,
        unit="ms",
        digits=2,
        note=f"median {median:.2f}, most {most:.1f}; {usage.others_cores:.2f} cores busy besides",
    )


# --- c. Memory ----------------------------------------------------------------------------------


def _memory(server: WebServer, hit: ImageAsset, home: Path, extent: Extent) -> list[Row]:
    vast = _vast_assets(home / "vast", extent.vast_pixels)
    with Client(server.port) as client:
        for _ in range(50):
            client.expect(HTTPStatus.OK, hit.thumbnail_url)
    idle = server.worker.memory_info().rss
    with peaks(server.worker) as found, _asked_at_once(server, vast) as answers:
        pass
    web = found.pop(server.worker.pid, Peak())
    most = max(found.values(), key=lambda peak: peak.address_bytes, default=Peak())
    if most.resident_bytes < 3 * extent.vast_pixels:
        raise NothingToMeasure(f"No picture was decoded: the answers were {_statuses(answers)}.")
    allowed = conf.current().render_memory_bytes
    megapixels = extent.vast_pixels // 10**6
    return [
        Row(
            key="web.memory_over_idle_mib",
            label=f"memory over idle, {len(vast)} of {megapixels} megapixels at once",
            value=(web.resident_bytes - idle) / MEBIBYTE,
            unit="MiB",
            bound=MEMORY_BOUND,
            judged=extent.is_whole,
            note=f"idle {idle / MEBIBYTE:.0f} MiB; they got {_statuses(answers)}",
        ),
        Row(
            key="web.render_process_memory",
            label="the largest render process, to its limit",
            value=most.address_bytes / allowed,
            unit="×",
            digits=2,
            bound=RENDER_MEMORY_BOUND,
            judged=extent.is_whole,
            note=f"{most.address_bytes / MEBIBYTE:,.0f} MiB of address space, "
            f"{most.resident_bytes / MEBIBYTE:,.0f} resident",
        ),
    ]


def _vast_assets(folder: Path, pixels: int) -> list[ImageAsset]:
    folder.mkdir()
    first = folder / "0.png"
    write_vast_png(first, pixels)
    links = [folder / f"{number}.png" for number in range(1, VAST_PICTURES)]
    for link in links:
        link.hardlink_to(first)
    return [importing.import_file(path) for path in (first, *links)]


# --- d. Many at once ----------------------------------------------------------------------------


def _crowd(environment: dict[str, str], hit: ImageAsset, home: Path) -> Row:
    """Renders of one thumbnail that is not in the cache, by two processes as in the Procfile."""
    log = home / "renders.log"
    log.touch()
    counting = environment | {"BENCHMARK_RENDERS": str(log)}
    freshness.purge_now(hit.pk)
    with (
        WebServer(counting, home / "crowd.log", processes=2) as server,
        _asked_at_once(server, [hit] * CROWD) as answers,
    ):
        pass
    return Row(
        key="web.crowd_renders",
        label=f"renders of a cold thumbnail, {CROWD} at once",
        value=log.stat().st_size,
        unit="",
        digits=0,
        bound=CROWD_BOUND,
        note=f"they got {_statuses(answers)}",
    )


# --- e. Starts ----------------------------------------------------------------------------------


def _starts(home: Path, photo: Path, count: int) -> list[Row]:
    site = Site.create(home)
    site.add_originals([photo], count=1)
    site.manage("import_images", str(site.originals))
    site.manage("regenerate_thumbnails")
    commands = [_seconds_of_command(site) for _ in range(count)]
    with QueueServer() as queue:
        workers = [_seconds_to_worker(site, queue) for _ in range(count)]
    return [
        _start_row("command", "regenerate_thumbnails with nothing to do", commands),
        _start_row("worker", "a worker, until it waits for jobs", workers),
    ]


def _seconds_of_command(site: Site) -> float:
    with metered() as usage:
        site.manage("regenerate_thumbnails")
    return usage.wall_seconds


def _seconds_to_worker(site: Site, queue: QueueServer) -> float:
    queue.flush()
    names = ("thumbnails-now", "thumbnails-bulk", "default")
    started_at = time.perf_counter()
    with site.started("rqworker", *names, REDIS_URL=queue.url) as program, queue.client as client:
        wait_for(
            lambda: program.poll() is not None or workers_are_idle(client),
            "a worker",
            interval_seconds=0.005,
        )
        seconds = time.perf_counter() - started_at
        program.terminate()
    return seconds


def _start_row(key: str, label: str, seconds: Sequence[float]) -> Row:
    return Row(
        key=f"web.{key}_start_s",
        label=f"{label}, median of {len(seconds)}",
        value=statistics.median(seconds),
        unit="s",
        digits=2,
        note=f"{min(seconds):.2f} to {max(seconds):.2f}",
    )

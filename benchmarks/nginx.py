"""nginx with the configuration of `deploy/`: a hit's cost beside that of a bare file."""

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.meters import cpu_seconds
from benchmarks.rendering import this_renderer
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure
from tests.nginx import HOST, NginxServer, missing
from tests.waiting import wait_for
from thumbnails.storage import names as layout

HIT_BOUND = Bound(at_least=0.95)
BARE_HOST = "bare.example.org"
NAME = layout.name_for(1)
NO_SITE = 9
"""The port of the site, which no hit asks: the discard protocol's."""
CONNECTIONS = 8


def measure(photo: Path, *, batches: int, judged: bool) -> Section:
    """By turns, a second each, with wrk, which keeps the server busy as no client in Python does.

    Over TLS, as the configuration has it.
    """
    title = f"nginx, one process, {CONNECTIONS} connections with TLS"
    lacking = missing() or ("" if shutil.which("wrk") else "there is no wrk")
    if lacking:
        return Section(title=title, rows=[_row(None, lacking, judged=judged)])
    with _cache(this_renderer(photo)) as cache, _server(cache) as server:
        worker = wait_for(psutil.Process(server.pid).children, "nginx's process")[0]
        _costs(server, worker)  # warms up
        costs = [_costs(server, worker) for _ in range(batches)]
    hit, bare = (statistics.median(each) for each in zip(*costs, strict=True))
    note = f"{bare * 1e6:.1f} µs of the server's CPU to {hit * 1e6:.1f}"
    return Section(title=title, rows=[_row(bare / hit, note, judged=judged)])


def _row(value: float | None, note: str, *, judged: bool) -> Row:
    return Row(
        key="nginx.bare_over_hit",
        label="a bare file, to a hit through our configuration",
        value=value,
        unit="× CPU",
        digits=2,
        bound=HIT_BOUND,
        judged=judged,
        note=note,
    )


@contextmanager
def _cache(content: bytes) -> Iterator[Path]:
    """A cache with one thumbnail, readable for nginx's user."""
    home = Path(tempfile.mkdtemp(prefix="nginx-benchmark-"))
    try:
        file = home / "cache" / NAME
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        home.chmod(0o755)
        yield home / "cache"
    finally:
        shutil.rmtree(home)


def _server(cache: Path) -> NginxServer:
    # At the same address, so that the host alone makes the difference.
    bare = f"server {{ listen LISTEN; server_name {BARE_HOST}; location /thumbnails/ {{ "
    return NginxServer(cache, NO_SITE, more=f"{bare} alias {cache}/; sendfile on; }} }}")


def _costs(server: NginxServer, worker: psutil.Process) -> tuple[float, float]:
    """Seconds of the server's CPU for a hit, and for the bare file."""
    hit, bare = (_cost(server, worker, host) for host in (HOST, BARE_HOST))
    return hit, bare


def _cost(server: NginxServer, worker: psutil.Process, host: str) -> float:
    address = f"{server.url}/thumbnails/{NAME}?v=0123456789abcdef"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", "-H", f"Host: {host}", address]
    before = cpu_seconds(worker)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = cpu_seconds(worker) - before
    answered = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode != 0 or answered is None or "Non-2xx" in done.stdout:
        raise NothingToMeasure(f"wrk failed:\n{done.stdout}{done.stderr}")
    return seconds / int(answered[1])

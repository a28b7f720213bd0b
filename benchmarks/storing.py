"""The cost of storing a thumbnail, and the share of it that is spent in fsync."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, median
from unittest import mock

from benchmarks.rendering import this_renderer
from benchmarks.report import Row, Section
from thumbnails.storage import names as layout
from thumbnails.storage import thumbnails as cache

_fsync = os.fsync


def measure(photo: Path, *, writes: int) -> Section:
    """Replace thumbnails in the cache of this process's site, by turns with and without fsync."""
    content = this_renderer(photo)
    synced: list[float] = []
    unsynced: list[float] = []
    waits: list[float] = []
    for number in range(1, writes + 1):
        write = partial(cache.write, layout.name_for(number), content)
        write()
        # Plain functions: a Mock would be as slow as what is measured.
        with mock.patch("os.fsync", lambda fd: waits.append(_milliseconds(partial(_fsync, fd)))):
            synced.append(_milliseconds(write))
        with mock.patch("os.fsync", _no_fsync):
            unsynced.append(_milliseconds(write))
    return Section(
        title=f"Storing a thumbnail of {len(content):,} bytes, wall time, {writes} writes",
        rows=[
            _time("storing.write_ms", "as it is, with fsync", synced),
            _time("storing.fsync_ms", "of that, in fsync", waits),
            _time("storing.write_without_fsync_ms", "without fsync", unsynced),
            Row(
                key="storing.fsync_share",
                label="fsync's share of the total time",
                value=100 * sum(waits) / sum(synced),
                unit="%",
                digits=0,
            ),
        ],
    )


def _no_fsync(_: int) -> None:
    pass


def _time(key: str, label: str, times: list[float]) -> Row:
    return Row(
        key=key,
        label=f"{label}, median",
        value=median(times),
        unit="ms",
        digits=2,
        note=f"mean {fmean(times):.2f}, most {max(times):.2f}",
    )


def _milliseconds(work: Callable[[], None]) -> float:
    started_at = time.perf_counter()
    work()
    return (time.perf_counter() - started_at) * 1000

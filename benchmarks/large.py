"""Starts of runs and pages with very many images."""

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure
from tests.servers import PostgresServer, QueueServer

START_BOUND = Bound(at_most=5)
PAGE_BOUND = Bound(at_most=5)
IDS_BOUND = Bound(at_most=1)
CHANGELIST_BOUND = Bound(at_most=300)
OVERVIEW_BOUND = Bound(at_most=500)
ALIKE_BOUND = Bound(at_most=500)
REPORT_BOUND = Bound(at_most=300)
CSV_MEMORY_BOUND = Bound(at_most=1)


def measure(count: int, *, judged: bool) -> Section:
    """In a separate process with its own database."""
    found = _found(count)
    slowest = max(found["pages_ms"], key=found["pages_ms"].__getitem__)
    slowest_filter = max(found["changelist_ms"], key=found["changelist_ms"].__getitem__)
    slowest_alike = max(found["alike_ms"], key=found["alike_ms"].__getitem__)
    slowest_count = max(found["counts_ms"].values())
    rows = [
        Row(
            key="large.start_seconds",
            label="start of a run over all",
            value=found["start_seconds"],
            unit="s",
            bound=START_BOUND,
            judged=judged,
        ),
        Row(
            key="large.start_memory_mib",
            label="memory that the start takes",
            value=found["start_bytes"] / 2**20,
            unit="MiB",
        ),
        Row(
            key="large.list_ratio",
            label="slowest page of the API's list, to the first of 1,000 images",
            value=found["pages_ms"][slowest] / found["few_ms"],
            unit="×",
            bound=PAGE_BOUND,
            judged=judged,
            note=f"{slowest}: {found['pages_ms'][slowest]:.1f} ms to {found['few_ms']:.1f}",
        ),
        Row(
            key="large.ids_seconds",
            label="start of a run by a request that names 10,000 ids",
            value=found["ids_seconds"],
            unit="s",
            digits=2,
            bound=IDS_BOUND,
            judged=judged,
        ),
        Row(
            key="large.plan_seconds",
            label="the plan of a run over all, in the admin",
            value=found["plan_seconds"],
            unit="s",
            digits=2,
            bound=START_BOUND,
            judged=judged,
        ),
        Row(
            key="large.click_seconds",
            label="its button, from the click to the answer",
            value=found["click_seconds"],
            unit="s",
            digits=2,
            bound=START_BOUND,
            judged=judged,
        ),
        Row(
            key="large.changelist_ms",
            label=f"the admin's list by its slowest of {len(found['changelist_ms'])} filters",
            value=found["changelist_ms"][slowest_filter],
            unit="ms",
            bound=CHANGELIST_BOUND,
            judged=judged,
            note=slowest_filter,
        ),
        Row(
            key="large.overview_ms",
            label="the overview in the admin",
            value=found["overview_ms"],
            unit="ms",
            bound=OVERVIEW_BOUND,
            judged=judged,
            note=f"the workers count them, the slowest in {slowest_count:.0f} ms",
        ),
        Row(
            key="large.alike_ms",
            label=f"others like an image, the slowest of {len(found['alike_ms'])}",
            value=found["alike_ms"][slowest_alike],
            unit="ms",
            bound=ALIKE_BOUND,
            judged=judged,
            note=slowest_alike,
        ),
        Row(
            key="large.report_ms",
            label="a page of the report of a run over all",
            value=found["report_ms"],
            unit="ms",
            bound=REPORT_BOUND,
            judged=judged,
            note=f"compared with now in {found['compare_seconds']:.1f} s",
        ),
        Row(
            key="large.report_memory_mib",
            label="memory that the second half of its CSV takes beside the first",
            value=found["csv_bytes"] / 2**20,
            unit="MiB",
            bound=CSV_MEMORY_BOUND,
            judged=judged,
            note=f"the whole in {found['csv_seconds']:.0f} s",
        ),
    ]
    return Section(title=f"With {count:,} images (PostgreSQL)", rows=rows)


def _found(count: int) -> dict[str, Any]:
    with PostgresServer() as database, QueueServer() as queue:
        environment = {**os.environ, "DATABASE_URL": database.url, "REDIS_URL": queue.url}
        program = [sys.executable, "-m", "benchmarks.million", str(count)]
        done = subprocess.run(  # noqa: S603  the project's own
            program, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise NothingToMeasure(f"Measuring with {count:,} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found

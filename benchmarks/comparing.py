"""This project beside other libraries for Django, in turns and on the same pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.others import environment
from benchmarks.others.process import Process
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure

PAGE = 100
"""Thumbnails on a page."""
OURS = "this project"
LIBRARIES = {
    "easy": "easy-thumbnails",
    "sorl": "sorl-thumbnail",
    "imagekit": "django-imagekit",
    "pictures": "django-pictures",
}
"""Their packages by the modules of `benchmarks.others`."""
QUERIES_AT_MOST = Bound(at_most=1)
"""The rows."""
CALLS_AT_MOST = Bound(at_most=0)

SIDE = 256
"""Of a thumbnail, in pixels."""


def measure_apps(
    home: Path,
    photos: Sequence[Path],
    medium: Sequence[Path],
    *,
    rounds: int,
    page: int = PAGE,
    libraries: Sequence[str] = tuple(LIBRARIES),
) -> Section:
    """Cold renders of the photos, and a page of `page` thumbnails of the medium pictures."""
    python = environment.python() if libraries else Path(sys.executable)
    names = ["ours", *libraries]
    with _processes(python, home, names) as processes:
        cold = {
            name: [median(times) for times in by_photo]
            for name, by_photo in _cold(processes, photos, rounds).items()
        }
        pages = _pages(processes, [medium[number % len(medium)] for number in range(page)], rounds)
    labels = {name: OURS if name == "ours" else _label(python, name) for name in names}
    return Section(
        title=f"Beside other apps: CPU of {len(photos)} photos' cold thumbnails and of a page of "
        f"{page} warm ones",
        rows=[*_cold_rows(cold, labels), *_page_rows(pages, labels, page)],
    )


@contextmanager
def _processes(python: Path, home: Path, names: Sequence[str]) -> Iterator[dict[str, Process]]:
    with ExitStack() as stack:
        processes = {}
        for name in names:
            command = python, "-m", "benchmarks.others", name, home / name
            processes[name] = Process(command)
            stack.callback(processes[name].end)
        yield processes


def _cold(
    processes: dict[str, Process], photos: Sequence[Path], rounds: int
) -> dict[str, list[list[float]]]:
    """Milliseconds of CPU by contender and photo; the first round warms up."""
    taken: dict[str, list[list[float]]] = {name: [[] for _ in photos] for name in processes}
    for number in range(rounds + 1):
        for index, photo in enumerate(photos):
            for name, process in processes.items():
                answer = process.ask(["cold", str(photo)])
                if SIDE not in answer["size"]:
                    raise NothingToMeasure(f"{name} rendered {answer['size']}.")
                if number:
                    taken[name][index].append(answer["ms"])
    return taken


def _pages(
    processes: dict[str, Process], pictures: Sequence[Path], rounds: int
) -> dict[str, dict[str, Any]]:
    for process in processes.values():
        process.ask(["fill", [*map(str, pictures)]])
    taken: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(max(rounds, 3) * 5):  # a page takes few milliseconds
        for name, process in processes.items():
            page = process.ask(["page"])
            if page["images"] != len(pictures):
                raise NothingToMeasure(f"The page of {name} has {page['images']} images.")
            taken[name].append(page["ms"])
    return {
        name: {"ms": median(taken[name]), **process.ask(["count"])}
        for name, process in processes.items()
    }


def _label(python: Path, name: str) -> str:
    (site_packages,) = python.parent.parent.glob("lib/python*/site-packages")
    package = LIBRARIES[name]
    (found,) = metadata.distributions(name=package, path=[str(site_packages)])
    return f"{package} {found.version}"


def _cold_rows(cold: dict[str, list[float]], labels: dict[str, str]) -> list[Row]:
    ours = fmean(cold["ours"])
    return [
        Row(
            key=f"others.{name}_cold_ms",
            label=f"a cold thumbnail: {labels[name]}",
            value=fmean(by_photo),
            unit="ms",
            note="" if name == "ours" else f"{fmean(by_photo) / ours:.2f} × ours",
        )
        for name, by_photo in cold.items()
    ]


def _page_rows(
    pages: dict[str, dict[str, Any]], labels: dict[str, str], thumbnails: int
) -> list[Row]:
    ours = pages["ours"]
    rows = [
        Row(
            key=f"others.{name}_page_ms",
            label=f"a page of {thumbnails}: {labels[name]}",
            value=page["ms"],
            unit="ms",
            note=("" if name == "ours" else f"{page['ms'] / ours['ms']:.2f} × ours; ")
            + "queries: {queries}, calls of storages: {calls}; ".format(**page["warm"])
            + "with an empty cache {queries} and {calls}".format(**page["first"]),
        )
        for name, page in pages.items()
    ]
    return [
        *rows,
        Row(
            key="others.ours_page_queries",
            label="queries of our page; 1 is the page's own",
            value=ours["first"]["queries"],
            unit="",
            digits=0,
            bound=QUERIES_AT_MOST,
        ),
        Row(
            key="others.ours_page_calls",
            label="calls of storages by our page",
            value=ours["first"]["calls"],
            unit="",
            digits=0,
            bound=CALLS_AT_MOST,
        ),
    ]

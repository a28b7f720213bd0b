"""This project beside other libraries, in turns and on the same pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import fmean, median
from typing import IO, Any

import PIL

from benchmarks.meters import cpu_milliseconds
from benchmarks.others import environment
from benchmarks.report import Bound, Row, Section
from benchmarks.site import ROOT, NothingToMeasure
from thumbnails.rendering import Recipe
from thumbnails.rendering.render import render

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

SIDE, QUALITY = 256, 85
SHARPS_PICTURE = "2569067123_aca715a2ee_o.jpg"
"""What sharp's own benchmark resizes; it is in its repository, not in its package."""
SHARPS_SIDE, SHARPS_QUALITY = 720, 80


class Process:
    """A process that answers each line of JSON with another one."""

    def __init__(self, command: Sequence[object]) -> None:
        environment = {
            **{name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "VIPS_CONCURRENCY": "1",
        }
        self._command = [*map(str, command)]
        self._program = subprocess.Popen(  # noqa: S603  the project's own
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        self.greeting = self._answer()

    def ask(self, question: object) -> dict[str, Any]:
        _pipe(self._program.stdin).write(f"{json.dumps(question)}\n")
        _pipe(self._program.stdin).flush()
        return self._answer()

    def end(self) -> None:
        with self._program:  # closes its pipes, and so it ends
            pass

    def _answer(self) -> dict[str, Any]:
        line = _pipe(self._program.stdout).readline()
        if not line:
            raise NothingToMeasure(f"{' '.join(self._command)} ended.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise NothingToMeasure("A process has no pipe.")
    return pipe


# --- Django's apps ------------------------------------------------------------------------------


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


# --- Renderers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """Pictures to fit inside a square."""

    key: str
    label: str
    pictures: Sequence[Path]
    side: int
    quality: int


def measure_renderers(
    photos: Sequence[Path], *, rounds: int, sharps_picture: Path | None
) -> Section:
    """Bytes on disk to the bytes of a JPEG, with one thread each."""
    tasks = [Task("photo", f"a photo to {SIDE} px", photos, SIDE, QUALITY)]
    if sharps_picture is not None:
        label = f"sharp's to {SHARPS_SIDE} px"
        tasks.append(Task("sharps", label, [sharps_picture], SHARPS_SIDE, SHARPS_QUALITY))
    with _renderers() as (renderers, labels):
        rows = [row for task in tasks for row in _task_rows(task, renderers, labels, rounds)]
    if sharps_picture is None:
        rows.append(_without_sharps_picture())
    return Section(title="Beside other renderers: CPU of one thread, file to JPEG", rows=rows)


Ask = Callable[[Path, int, int], tuple[float, tuple[int, int]]]
"""A picture, side and quality: milliseconds of CPU, and the size."""


@contextmanager
def _renderers() -> Iterator[tuple[dict[str, Ask], dict[str, str]]]:
    node, modules = shutil.which("node"), environment.node_modules()
    with ExitStack() as stack:
        vips = Process([environment.python(), "-m", "benchmarks.others.vips"])
        stack.callback(vips.end)
        renderers: dict[str, Ask] = {"ours": _ours, "vips": partial(_asked, vips)}
        labels = {"ours": f"{OURS}, Pillow {PIL.__version__}"}
        labels["vips"] = f"libvips {vips.greeting['version']}"
        if node and modules:
            sharp = Process([node, ROOT / "benchmarks" / "others" / "sharp.mjs", modules])
            stack.callback(sharp.end)
            renderers["sharp"] = partial(_asked, sharp)
            labels["sharp"] = f"sharp {sharp.greeting['version']}"
        yield renderers, labels


def _ours(path: Path, side: int, quality: int) -> tuple[float, tuple[int, int]]:
    recipe = Recipe(size_px=side, quality=quality)
    sizes: list[tuple[int, int]] = []

    def work() -> None:
        with path.open("rb") as file:
            made = render(file, recipe, fingerprint="0" * 16, max_pixels=10**9)
        sizes.append((made.width, made.height))

    return cpu_milliseconds(work), sizes[0]


def _asked(process: Process, path: Path, side: int, quality: int) -> tuple[float, tuple[int, int]]:
    answer = process.ask([str(path), side, quality])
    width, height = answer["size"]
    return answer["ms"], (width, height)


def _task_rows(
    task: Task, renderers: dict[str, Ask], labels: dict[str, str], rounds: int
) -> Iterator[Row]:
    taken: dict[str, list[list[float]]] = {name: [[] for _ in task.pictures] for name in renderers}
    for number in range(rounds + 1):
        for index, picture in enumerate(task.pictures):
            for name, renderer in renderers.items():
                milliseconds, size = renderer(picture, task.side, task.quality)
                if max(size) != task.side:
                    raise NothingToMeasure(f"{name} rendered {size} of {picture.name}.")
                if number:
                    taken[name][index].append(milliseconds)
    means = {name: fmean(map(median, by_picture)) for name, by_picture in taken.items()}
    for name, mean in means.items():
        yield Row(
            key=f"renderers.{name}_{task.key}_ms",
            label=f"{task.label}: {labels[name]}",
            value=mean,
            unit="ms",
            note="" if name == "ours" else f"{mean / means['ours']:.2f} × ours",
        )


def _without_sharps_picture() -> Row:
    return Row(
        key="renderers.ours_sharps_ms",
        label="sharp's benchmark picture",
        value=None,
        unit="ms",
        note=f"--sharps-picture FILE names it: {SHARPS_PICTURE} of sharp's repository",
    )

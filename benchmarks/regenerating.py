"""The whole command over photos: its overhead, libvips beside it, and its gain of a second core."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.meters import Usage, metered
from benchmarks.renderers import libvips, milliseconds_of_libvips
from benchmarks.rendering import this_renderer
from benchmarks.report import Bound, Row, Section
from benchmarks.site import Site

COMMAND = ("regenerate_thumbnails", "--force")

CPU_AT_MOST = Bound(at_most=1.15)
VIPS_AT_MOST = Bound(at_most=1.1)
GAIN_AT_LEAST = Bound(at_least=1.85)

QUIET_CORES = 0.1
"""A wall time is quiet if other programs kept no more cores than this busy."""
BUSY_CORES = 0.25
"""Above it, wall times depend too much on other programs to be judged."""
MORE_ROUNDS = 1
"""How often a wall time is measured again if none is quiet, whether the bound is met or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuRound:
    """CPU of the command, and of only rendering the same photos before and after it."""

    command: Usage
    alone_before: Usage
    """Half of the photos; the rest follows after the command, so that drift affects both."""
    alone_after: Usage
    vips_seconds: float
    """Of libvips for the same photos, likewise in two halves."""

    @property
    def alone_seconds(self) -> float:
        return self.alone_before.cpu_seconds + self.alone_after.cpu_seconds

    @property
    def ratio(self) -> float:
        return self.command.cpu_seconds / self.alone_seconds

    @property
    def ratio_to_vips(self) -> float:
        return self.command.cpu_seconds / self.vips_seconds


def measure(
    home: Path, photos: Sequence[Path], *, count: int, rounds: int, cores: int, judged: bool
) -> Section:
    """`judged` is False if there are fewer photos than the bounds apply to."""
    site = Site.create(home)
    site.add_originals(photos, count=count)
    site.manage("import_images", str(site.originals))
    paths = sorted(path for path in site.originals.rglob("*") if path.is_file())
    cpu: list[CpuRound] = []
    two: list[Usage] = []
    for _ in range(rounds):
        cpu.append(_measure_cpu(site, paths))
        if cores > 1:
            two.append(_command(site, workers=2))
    rows = _cpu_rows(cpu, judged=judged)
    if cores > 1:
        one = _quiet(partial(_command, site, workers=1, on_one_core=True), [])
        both = _quiet(partial(_command, site, workers=2), two)
        rows += _gain_rows(one, both, judged=judged)
        rows.append(_machines_gain(paths[: count // 4]))
    else:
        rows.append(_gain_row(None, note="skipped: there is one core"))
    return Section(title=f"regenerate_thumbnails --force, {count:,} photos", rows=rows)


def _measure_cpu(site: Site, paths: Sequence[Path]) -> CpuRound:
    half = len(paths) // 2
    with libvips() as process:
        vips_before = milliseconds_of_libvips(process, paths[:half])
        alone_before = _render_all(paths[:half])
        command = _command(site, workers=1)
        alone_after = _render_all(paths[half:])
        vips_after = milliseconds_of_libvips(process, paths[half:])
    return CpuRound(
        command=command,
        alone_before=alone_before,
        alone_after=alone_after,
        vips_seconds=(vips_before + vips_after) / 1000,
    )


def _quiet(command: Callable[[], Usage], usages: list[Usage]) -> Usage:
    """The shortest quiet wall time; if none is quiet after MORE_ROUNDS, the quietest one."""
    usages = usages or [command()]
    for _ in range(MORE_ROUNDS):
        if any(usage.others_cores <= QUIET_CORES for usage in usages):
            break
        usages.append(command())
    quiet = [usage for usage in usages if usage.others_cores <= QUIET_CORES]
    if quiet:
        return min(quiet, key=lambda usage: usage.wall_seconds)
    return min(usages, key=lambda usage: usage.others_cores)


def _command(site: Site, *, workers: int, on_one_core: bool = False) -> Usage:
    """`on_one_core`: the command and its render process share one core."""
    cores = os.sched_getaffinity(0)
    try:
        if on_one_core:
            os.sched_setaffinity(0, {min(cores)})  # inherited by what is started
        with metered(other_programs=True) as usage:
            site.manage(*COMMAND, f"--workers={workers}")
    finally:
        os.sched_setaffinity(0, cores)
    return usage


def _render_all(paths: Sequence[Path]) -> Usage:
    with metered() as usage:
        for path in paths:
            this_renderer(path)
    return usage


def _render_by_two(paths: Sequence[Path]) -> Usage:
    # Forked, so that they start immediately with all modules.
    context = multiprocessing.get_context("fork")
    with metered(other_programs=True) as usage, ProcessPoolExecutor(2, context) as pool:
        for _ in pool.map(this_renderer, paths, chunksize=8):
            pass
    return usage


def _cpu_rows(rounds: Sequence[CpuRound], *, judged: bool) -> list[Row]:
    return [
        Row(
            key="regenerating.alone_cpu_s",
            label="CPU of rendering alone, in one process",
            value=median(one.alone_seconds for one in rounds),
            unit="s",
        ),
        Row(
            key="regenerating.command_cpu_s",
            label="CPU of the command with all its processes, --workers 1",
            value=median(one.command.cpu_seconds for one in rounds),
            unit="s",
        ),
        Row(
            key="regenerating.command_over_alone",
            label="the command against rendering alone",
            value=median(one.ratio for one in rounds),
            unit="×",
            digits=2,
            bound=CPU_AT_MOST,
            judged=judged,
        ),
        Row(
            key="regenerating.vips_cpu_s",
            label="CPU of libvips for the same thumbnails, in one process",
            value=median(one.vips_seconds for one in rounds),
            unit="s",
        ),
        Row(
            key="regenerating.command_over_vips",
            label="the command against libvips",
            value=median(one.ratio_to_vips for one in rounds),
            unit="×",
            digits=2,
            bound=VIPS_AT_MOST,
            judged=judged,
        ),
    ]


def _gain_rows(one: Usage, two: Usage, *, judged: bool) -> list[Row]:
    busy = max(one.others_cores, two.others_cores) > BUSY_CORES
    note = "not judged: the machine was too busy with other programs" if busy else ""
    gain = one.wall_seconds / two.wall_seconds
    return [
        _wall_row("one", one),
        _wall_row("two", two),
        _gain_row(gain, note=note, judged=judged and not busy),
    ]


def _machines_gain(paths: Sequence[Path]) -> Row:
    """The speed-up of only rendering: the best that a second core allows on this machine."""
    one, two = _render_all(paths), _render_by_two(paths)
    return Row(
        key="regenerating.machines_gain",
        label="the gain of rendering alone: the machine's limit",
        value=one.wall_seconds / two.wall_seconds,
        unit="×",
        digits=2,
        note=f"others kept {max(one.others_cores, two.others_cores):.2f} cores busy",
    )


def _wall_row(cores: str, usage: Usage) -> Row:
    return Row(
        key=f"regenerating.{cores}_wall_s",
        label=f"wall time of the command on {cores} core{'s' if cores == 'two' else ''}",
        value=usage.wall_seconds,
        unit="s",
        note=f"{usage.cpu_seconds:.1f} s of CPU; others kept {usage.others_cores:.2f} cores busy",
    )


def _gain_row(gain: float | None, *, note: str, judged: bool = True) -> Row:
    return Row(
        key="regenerating.two_workers_gain",
        label="the gain of the second core",
        value=gain,
        unit="×",
        digits=2,
        bound=GAIN_AT_LEAST,
        judged=judged,
        note=note,
    )

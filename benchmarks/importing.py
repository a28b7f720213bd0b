"""Files per second that an import records, from a warm cache."""

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from statistics import median

from django.core.management import call_command

from benchmarks.meters import Usage, metered
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure, Site
from thumbnails.models import ImageAsset

BOUND = Bound(at_least=1000)


def measure(
    home: Path, here: Site, small: Sequence[Path], *, count: int, rounds: int, judged: bool
) -> Section:
    """`here` is this process's own site; it keeps the images of the last round.

    `judged` is False if so few files are imported that the command's startup dominates.
    """
    here.add_originals(small, count=count)
    rates = [count / _import_here(here, count).wall_seconds for _ in range(rounds)]
    command = _import_by_command(home, small, count)
    return Section(
        title=f"import_images, {count:,} new files of a few kilobytes",
        rows=[
            Row(
                key="importing.files_per_s",
                label=f"the command in a running process, median of {rounds}",
                value=median(rates),
                unit="files/s",
                digits=0,
                bound=BOUND,
            ),
            Row(
                key="importing.command_files_per_s",
                label="the whole command, with the startup of Python and Django",
                value=count / command.wall_seconds,
                unit="files/s",
                digits=0,
                bound=BOUND,
                judged=judged,
                note=f"{command.wall_seconds:.1f} s",
            ),
        ],
    )


def _import_here(site: Site, count: int) -> Usage:
    ImageAsset.objects.all().delete()
    report = StringIO()
    with metered() as usage:
        call_command("import_images", str(site.originals), json=True, stdout=report)
    added = json.loads(report.getvalue())["added"]
    if added != count:
        raise NothingToMeasure(f"Of {count:,} files the import added {added:,}.")
    return usage


def _import_by_command(home: Path, small: Sequence[Path], count: int) -> Usage:
    site = Site.create(home / "importing")
    site.add_originals(small, count=count)
    with metered(other_programs=True) as usage:
        site.manage("import_images", str(site.originals))
    return usage

"""Peak memory of the commands, which must not grow with the number of images."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.meters import peak_memory_bytes
from benchmarks.report import Bound, Row, Section
from benchmarks.site import Site

WORKERS = 2
"""On any machine, since memory grows with the number of processes."""

PHOTOS = 24
"""Enough for both processes to hold a large picture at the same moment."""

MEBIBYTE = 1024 * 1024


def measure(
    home: Path, photos: Sequence[Path], tiny: Sequence[Path], *, counts: Sequence[int]
) -> Section:
    """Over each of `counts` tiny pictures, and over some photos."""
    rows = _both_commands(home, "photos of 12 megapixels", photos, PHOTOS)
    for count in counts:
        rows += _both_commands(home, "tiny pictures", tiny, count)
    return Section(
        title=f"Peak memory of a command: RSS of its processes, and spools, --workers {WORKERS}",
        rows=rows,
    )


def _both_commands(home: Path, what: str, pictures: Sequence[Path], count: int) -> list[Row]:
    site = Site.create(home / f"{what.replace(' ', '-')}-{count}")
    site.add_originals(pictures, count=count)
    importing = _peak_mib(site, "import_images", str(site.originals))
    rendering = _peak_mib(site, "regenerate_thumbnails", "--force", f"--workers={WORKERS}")
    key = f"{what.partition(' ')[0]}_{count}"
    return [
        Row(
            key=f"memory.regenerate_{key}_mib",
            label=f"regenerate_thumbnails, {count:,} {what}",
            value=rendering,
            unit="MiB",
            digits=0,
            bound=Bound(at_most=400),
        ),
        Row(
            key=f"memory.import_{key}_mib",
            label=f"import_images, {count:,} {what}",
            value=importing,
            unit="MiB",
            digits=0,
        ),
    ]


def _peak_mib(site: Site, *command: str) -> float:
    with site.started(*command) as program:
        return peak_memory_bytes(program) / MEBIBYTE

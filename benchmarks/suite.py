"""All benchmarks, in order. To be imported only after Django is set up."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    api,
    hostile,
    importing,
    large,
    memory,
    moving,
    pages,
    photos,
    regenerating,
    rendering,
    running,
    storing,
    tags,
    web,
)
from benchmarks.meters import available_cores
from benchmarks.report import Section
from benchmarks.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured."""

    photos: int = 8
    """Different photos to render; further ones are links to these."""
    rendering_rounds: int = 4
    command_photos: int = 500
    command_rounds: int = 2
    tiny_counts: tuple[int, ...] = (100, 20_000)
    files: int = 5_000
    import_rounds: int = 3
    writes: int = 200
    run_pictures: int = 10_000
    audited_files: int = 100_000
    table_rows: int = 100_000
    images: int = 1_000_000
    hostile_seconds: float = 5
    """The time limit of one attempt at a tiny file that takes long."""
    web_extent: web.Extent = web.WHOLE
    is_whole: bool = True
    """False if some bounds apply to more than this."""


WHOLE = Extent()
QUICK = Extent(
    photos=4,
    rendering_rounds=3,
    command_photos=60,
    command_rounds=1,
    tiny_counts=(200,),
    files=1_000,
    writes=50,
    run_pictures=400,
    audited_files=2_000,
    table_rows=1_000,
    images=20_000,
    hostile_seconds=2,
    web_extent=web.QUICK,
    is_whole=False,
)


def measure(home: Path, here: Site, extent: Extent) -> Iterator[Section]:
    """Yields the sections as they are finished. `here` is this process's own site."""
    originals = photos.make_photos(home / "photos", count=extent.photos)
    tiny = photos.make_tiny(home / "tiny", count=8)
    small = photos.make_small(home / "small", count=50)
    yield rendering.measure(originals, rounds=extent.rendering_rounds)
    yield hostile.measure(seconds=extent.hostile_seconds)
    yield regenerating.measure(
        home / "regenerating",
        originals,
        count=extent.command_photos,
        rounds=extent.command_rounds,
        cores=available_cores(),
        judged=extent.is_whole,
    )
    yield memory.measure(home / "memory", originals, tiny, counts=extent.tiny_counts)
    yield importing.measure(
        home,
        here,
        small,
        count=extent.files,
        rounds=extent.import_rounds,
        judged=extent.is_whole,
    )
    yield moving.measure(home / "moving", tiny, count=extent.table_rows, judged=extent.is_whole)
    yield pages.measure()
    yield tags.measure()
    yield api.measure()
    yield storing.measure(originals[0], writes=extent.writes)
    yield web.measure(home / "web", here, originals[0], extent.web_extent)
    yield running.measure(
        here,
        small,
        pictures=extent.run_pictures,
        files=extent.audited_files,
        judged=extent.is_whole,
    )
    yield large.measure(extent.images, judged=extent.is_whole)

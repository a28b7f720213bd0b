"""All benchmarks, by their names and in order. To be imported only after Django is set up."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import (
    api,
    comparing,
    hostile,
    importing,
    large,
    memory,
    moving,
    nginx,
    pages,
    photos,
    regenerating,
    renderers,
    rendering,
    running,
    storing,
    tags,
    visits,
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
    phone_photos: int = 4
    """Of each size, to render beside other renderers."""
    rendering_rounds: int = 4
    """Also beside other libraries."""
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
    nginx_batches: int = 15
    visited: int = 1_000
    visit_rounds: int = 3
    is_whole: bool = True
    """False if some bounds apply to more than this."""


WHOLE = Extent()
QUICK = Extent(
    photos=4,
    phone_photos=1,
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
    nginx_batches=3,
    visited=100,
    visit_rounds=1,
    is_whole=False,
)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """What the sections share; pictures are made when the first one needs them."""

    home: Path
    here: Site
    """This process's own."""
    extent: Extent
    sharps_picture: Path | None = None
    """What sharp's own benchmark resizes."""

    @cached_property
    def photos(self) -> list[Path]:
        return photos.make_photos(self.home / "photos", count=self.extent.photos)

    @cached_property
    def phone(self) -> dict[int, list[Path]]:
        """Photos by megapixels."""
        return {
            megapixels: photos.make_photos(
                self.home / f"photos-{megapixels}", count=self.extent.phone_photos, size=size
            )
            for megapixels, size in photos.PHONE_SIZES.items()
        }

    @cached_property
    def medium(self) -> list[Path]:
        return photos.make_medium(self.home / "medium", count=20)

    @cached_property
    def small(self) -> list[Path]:
        return photos.make_small(self.home / "small", count=50)

    @cached_property
    def tiny(self) -> list[Path]:
        return photos.make_tiny(self.home / "tiny", count=8)


SECTIONS: dict[str, Callable[[Workplace], Section]] = {
    "rendering": lambda at: rendering.measure(at.photos, rounds=at.extent.rendering_rounds),
    "hostile": lambda at: hostile.measure(seconds=at.extent.hostile_seconds),
    "regenerating": lambda at: regenerating.measure(
        at.home / "regenerating",
        at.photos,
        count=at.extent.command_photos,
        rounds=at.extent.command_rounds,
        cores=available_cores(),
        judged=at.extent.is_whole,
    ),
    "memory": lambda at: memory.measure(
        at.home / "memory", at.photos, at.tiny, counts=at.extent.tiny_counts
    ),
    "importing": lambda at: importing.measure(
        at.home,
        at.here,
        at.small,
        count=at.extent.files,
        rounds=at.extent.import_rounds,
        judged=at.extent.is_whole,
    ),
    "moving": lambda at: moving.measure(
        at.home / "moving", at.tiny, count=at.extent.table_rows, judged=at.extent.is_whole
    ),
    "pages": lambda at: pages.measure(at.here, at.small),
    "tags": lambda _: tags.measure(),
    "api": lambda at: api.measure(at.photos[0]),
    "storing": lambda at: storing.measure(at.photos[0], writes=at.extent.writes),
    "web": lambda at: web.measure(at.home / "web", at.here, at.photos[0], at.extent.web_extent),
    "nginx": lambda at: nginx.measure(
        at.photos[0], batches=at.extent.nginx_batches, judged=at.extent.is_whole
    ),
    "visits": lambda at: visits.measure(
        at.home / "visits",
        at.photos,
        thumbnails=at.extent.visited,
        rounds=at.extent.visit_rounds,
        judged=at.extent.is_whole,
    ),
    "running": lambda at: running.measure(
        at.here,
        at.small,
        pictures=at.extent.run_pictures,
        files=at.extent.audited_files,
        judged=at.extent.is_whole,
    ),
    "large": lambda at: large.measure(at.extent.images, judged=at.extent.is_whole),
    "others": lambda at: comparing.measure_apps(
        at.home / "others", at.photos, at.medium, rounds=at.extent.rendering_rounds
    ),
    "renderers": lambda at: renderers.measure(
        at.phone,
        photos.make_web_pictures(at.home / "web-pictures"),
        renderers.make_heics(at.home / "heics", at.photos[:2]),
        rounds=at.extent.rendering_rounds,
        sharps_picture=at.sharps_picture,
    ),
}


def measure(at: Workplace, names: Collection[str]) -> Iterator[tuple[str, Section]]:
    """Yields the sections of these names, or all, with their names as they are finished."""
    for name, section in SECTIONS.items():
        if not names or name in names:
            yield name, section(at)

"""Thumbnails that another program made: served as they are until they are rendered."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from thumbnails import conf
from thumbnails.exceptions import Crashed, SourceMissing, TooLarge, Unreadable, Unsupported
from thumbnails.models import ImageAsset, Outcome
from thumbnails.models.recipes import UNSTAMPED
from thumbnails.models.results import Read, Record, Result
from thumbnails.rendering import MEDIA_TYPES, Spool, is_whole, read_size
from thumbnails.storage import originals, sources
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import name_for
from thumbnails.storage.thumbnails import ThumbnailFile
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.images.freshness import own_suffixes, variants_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OldThumbnail:
    """What another program has made of an image, as read from where it put it."""

    file: ThumbnailFile
    """With the variants beside it that are what they are named, by suffix."""
    variants: dict[str, list[int]]
    """What `look_at_variant` finds of each of them, by suffix."""
    problem: str
    """What of it is left out, in one sentence; empty if nothing is."""


def read_old(path: Path) -> OldThumbnail:
    """Returns another program's thumbnail, with each variant that this process renders and that
    lies beside it: `12.webp` beside `12.jpg`.

    Raises ThumbnailError, Unsupported for anything but a whole JPEG.
    """
    thumbnail = _read(path)
    if not thumbnail.is_whole:
        raise Unsupported(f"The old thumbnail {path} is not a whole JPEG.")
    contents, variants, problem = {}, {}, ""
    for suffix in sorted(own_suffixes()):
        beside = path.with_name(path.stem + suffix)
        with suppress(SourceMissing):
            content = _read(beside).content
            if found := look_at_variant(content, suffix):
                contents[suffix], variants[suffix] = content, found
            else:
                problem = f"The old thumbnail {beside} is not a whole picture of its name's format."
    file = replace(thumbnail, variants=contents)
    return OldThumbnail(file=file, variants=variants, problem=problem)


def _read(path: Path) -> ThumbnailFile:
    with sources.opened(path, within=None) as source:
        originals.check_size(source.size_bytes, conf.current().max_bytes)
        return ThumbnailFile(source.read(), source.modified_at)


def copied(asset: ImageAsset, old: OldThumbnail) -> Result | None:
    """Copy it into the cache, unless there is one already, and return the result that records it.

    None if the asset's thumbnail was rendered meanwhile. Raises StorageFailure.
    """
    with render_lock(asset.pk, patience_seconds=conf.current().render_seconds):
        present = cache.load(asset.thumbnail_name)
        if present is not None and present.stamp is not None:
            return None
        if present is not None and present.is_whole:
            return adopted(asset, present, cached_variants(asset))
        for suffix, content in old.file.variants.items():
            cache.write(name_for(asset.pk, suffix), content)
        cache.write(asset.thumbnail_name, old.file.content)
        return adopted(asset, old.file, old.variants)


def adopted(asset: ImageAsset, file: ThumbnailFile, variants: dict[str, list[int]]) -> Result:
    """Returns the result that records this file, in the cache, as the asset's stale thumbnail, with
    the variants beside it that `look_at_variant` has found."""
    width, height = read_size(file.content) or (None, None)
    return Result(
        asset_id=asset.pk,
        outcome=Outcome.FRESH,
        read=Read.of(asset),
        record=Record(
            thumbnail_path=asset.thumbnail_name,
            thumbnail_width=width,
            thumbnail_height=height,
            thumbnail_bytes=len(file.content),
            thumbnail_generated_at=datetime.fromtimestamp(file.modified_at, UTC),
            thumbnail_recipe=UNSTAMPED,
            thumbnail_variants=variants,
        ),
    )


def cached_variants(asset: ImageAsset, *, deep: bool = False) -> dict[str, list[int]]:
    """Returns what `look_at_variant` finds of each of the asset's variants in the cache, by suffix.

    Raises StorageFailure.
    """
    found = {}
    for suffix in variants_of(asset):
        content = cache.read(name_for(asset.pk, suffix))
        entry = content and look_at_variant(content, suffix, deep=deep)
        if entry:
            found[suffix] = entry
    return found


def look_at_variant(content: bytes, suffix: str, *, deep: bool = False) -> list[int] | None:
    """Returns width and height in pixels and size in bytes of a variant with this suffix.

    None if it is not a whole picture of that format, or (`deep`) cannot be decoded. Raises
    StorageFailure.
    """
    if not is_whole(content, suffix):
        return None
    pool, max_pixels = pools.worker_pool(large=False), conf.current().max_pixels
    name = f"variant {suffix}"
    with Spool.of(content) as spool, suppress(Unreadable, Unsupported, TooLarge, Crashed):
        facts = pool.inspect(spool, name=name, max_pixels=max_pixels)
        is_as_named = f"image/{facts.format.lower()}" == MEDIA_TYPES[suffix.rpartition(".")[2]]
        if is_as_named and (not deep or pool.is_whole(spool, name=name, max_pixels=max_pixels)):
            return [facts.width, facts.height, len(content)]
    return None

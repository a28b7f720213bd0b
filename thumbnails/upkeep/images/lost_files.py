"""Thumbnails that are fresh in the database but missing or cut short in the cache."""

from collections.abc import Iterator

from thumbnails.batching import batched
from thumbnails.models import ImageAsset, Outcome
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.models.results import NO_THUMBNAIL, Read, Result, save_results
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images.freshness import has_variants

BATCH = 1000


def lost_files(assets: ImageAssetQuerySet) -> Iterator[int]:
    """Yields the ids of the assets of whose fresh thumbnail a file is missing or cut short."""
    columns = ("pk", "thumbnail_path", "thumbnail_bytes", "thumbnail_variants")
    rows = assets.fresh().order_by("pk").values_list(*columns)
    for asset_id, path, size_bytes, variants in rows.iterator(chunk_size=10_000):
        if cache.size_bytes(path) != size_bytes or not has_variants(asset_id, variants):
            yield asset_id


def record_lost_files(assets: ImageAssetQuerySet) -> None:
    """Record lost files as missing."""
    for ids in batched(list(lost_files(assets)), BATCH):
        save_results([as_missing(asset) for asset in ImageAsset.objects.filter(pk__in=ids)])


def as_missing(asset: ImageAsset) -> Result:
    """Returns the result that records the thumbnail as missing, to be regenerated."""
    return Result(
        asset_id=asset.pk, outcome=Outcome.PURGED, read=Read.of(asset), record=NO_THUMBNAIL
    )

"""Thumbnails that another program made: served as they are until they are rendered."""

from datetime import UTC, datetime

from thumbnails.models import ImageAsset, Outcome
from thumbnails.models.recipes import UNSTAMPED
from thumbnails.models.results import Read, Record, Result
from thumbnails.rendering import read_size
from thumbnails.storage.thumbnails import ThumbnailFile


def adopted(asset: ImageAsset, file: ThumbnailFile) -> Result:
    """Returns the result that records this file, in the cache, as the asset's stale thumbnail."""
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
        ),
    )

"""A preview of a run: a few images rendered with the recipe in force. Nothing is replaced."""

import time
from contextlib import suppress
from dataclasses import dataclass

from thumbnails.exceptions import Busy, StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.rendering import Difference
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import serving

PREVIEWED = 12
SECONDS_AT_MOST = 10.0
"""A user is waiting for the page: after that no further image is begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One image of a preview."""

    asset: ImageAsset
    old: bytes | None
    """The thumbnail in the cache; None if there is none."""
    new: bytes | None
    """The new thumbnail; None if rendering fails, and `failure` says why."""
    failure: str = ""
    difference: Difference | None = None
    """None if one of the two is missing or damaged."""


def preview(assets: ImageAssetQuerySet) -> list[Preview]:
    """Render up to PREVIEWED of the assets, evenly spread. Replaces and records nothing."""
    give_up_at = time.monotonic() + SECONDS_AT_MOST
    previews: list[Preview] = []
    for asset in sample(assets, PREVIEWED):
        if previews and time.monotonic() > give_up_at:
            break
        previews.append(
            _preview_one(asset, patience_seconds=max(1.0, give_up_at - time.monotonic()))
        )
    return previews


def sample(assets: ImageAssetQuerySet, size: int) -> list[ImageAsset]:
    """Returns up to `size` of the assets, spread evenly over their ids."""
    few = list(assets.order_by("pk")[: size + 1])
    if len(few) <= size:
        return few
    first = few[0].pk
    last = assets.order_by("-pk").values_list("pk", flat=True).first() or first
    found = {}
    for step in range(size):
        at_least = first + (last - first) * step // (size - 1)
        asset = assets.filter(pk__gte=at_least).order_by("pk").first()
        if asset is not None:
            found[asset.pk] = asset
    for asset in few:  # several steps find the same one if the ids are clustered
        if len(found) < size:
            found.setdefault(asset.pk, asset)
    return [found[asset_id] for asset_id in sorted(found)]


def _preview_one(asset: ImageAsset, *, patience_seconds: float) -> Preview:
    old = difference = None
    with suppress(StorageFailure):
        old = cache.read(asset.thumbnail_path) if asset.thumbnail_path else None
    try:
        new = serving.preview(asset, patience_seconds=patience_seconds).content
    except (ThumbnailError, Busy) as error:
        return Preview(asset=asset, old=old, new=None, failure=str(error))
    with suppress(ThumbnailError, Busy):  # the old one is damaged
        difference = serving.compare(old, new) if old else None
    return Preview(asset=asset, old=old, new=new, difference=difference)

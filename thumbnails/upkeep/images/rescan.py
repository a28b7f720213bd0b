"""Originals that were changed without the site: overwritten in place, moved or deleted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from thumbnails import conf
from thumbnails.exceptions import Reason, SourceMissing, StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, Outcome, recipe_in_force
from thumbnails.models.assets import DETAIL_LENGTH, ImageAssetQuerySet
from thumbnails.models.results import Failure, Read, Result, save_results
from thumbnails.storage import originals
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.images.freshness import with_history

BATCH = 500
ERRORS_AT_MOST = 5
"""After that many the storage is taken to be unavailable, and the rest is skipped."""
SHARE_AT_MOST = 0.1
"""Of the originals: if more are gone, a disk is probably not mounted."""
FEW = 20
"""Fewer than that may be gone whatever their share."""


@dataclass(slots=True, kw_only=True)
class Rescan:
    """The findings of a rescan."""

    looked_at: int = 0
    changed: list[int] = field(default_factory=list)
    """Ids of assets whose original has changed since it was imported."""
    gone: list[int] = field(default_factory=list)
    """Ids of assets whose original is gone."""
    errors: list[str] = field(default_factory=list)
    """Of the storage; ERRORS_AT_MOST end the rescan."""

    def refusal(self, allow_share: float = SHARE_AT_MOST) -> str:
        """Returns why `gone` must not be recorded; empty if it may be."""
        if len(self.gone) <= max(FEW - 1, allow_share * self.looked_at):
            return ""
        return (
            f"{len(self.gone):,} of {self.looked_at:,} originals are gone: is a disk not mounted? "
            "Nothing was recorded of them."
        )


def rescan(
    assets: ImageAssetQuerySet, *, save: bool, on_progress: Callable[[int], None] = lambda _: None
) -> Rescan:
    """Compare each original's size and modification time; only changed ones are read.

    `save` records those that changed, which makes their thumbnails stale. `record_gone` records
    those that are gone, once their number is known.
    """
    found = Rescan()
    for batch in _batches(assets):
        changed: list[tuple[ImageAsset, str]] = []
        for asset in batch:
            version = _version(asset, found)
            if len(found.errors) >= ERRORS_AT_MOST:
                return found
            if version is not None and version != asset.source_version:
                found.changed.append(asset.pk)
                changed.append((asset, version))
        found.looked_at += len(batch)
        if save:
            # A void result needs no retry: the row was just written by another process.
            save_results(_changed(*one) for one in changed)
        on_progress(found.looked_at)
    return found


def record_gone(found: Rescan) -> None:
    """Record the failure of those that are gone. Their thumbnails are kept and served."""
    ids = iter(found.gone)
    while part := list(islice(ids, BATCH)):
        save_results(map(_gone, ImageAsset.objects.filter(pk__in=part)))


def _batches(assets: ImageAssetQuerySet) -> Iterator[list[ImageAsset]]:
    last = 0
    while batch := list(assets.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def _version(asset: ImageAsset, found: Rescan) -> str | None:
    try:
        version = originals.source_version(str(asset.original.name))
    except SourceMissing:
        found.gone.append(asset.pk)
        return None
    except StorageFailure as error:
        found.errors.append(str(error))
        return None
    return version


def _changed(asset: ImageAsset, version: str) -> Result:
    name = str(asset.original.name)
    facts = None
    try:
        with originals.read(name) as original:
            version = original.version
            facts = pools.worker_pool(large=False).inspect(
                original.spool, name=name, max_pixels=conf.current().max_pixels
            )
    except ThumbnailError:
        pass  # the render records the reason
    return Result(
        asset_id=asset.pk,
        outcome=Outcome.FRESH,
        read=Read.of(asset),
        facts=facts,
        source_version=version,
    )


def _gone(asset: ImageAsset) -> Result:
    detail = f"The original {asset.original.name} is gone."
    result = Result(
        asset_id=asset.pk,
        outcome=Outcome.FAILED,
        reason=Reason.SOURCE_MISSING,
        read=Read.of(asset),
        failure=Failure(
            thumbnail_error=Reason.SOURCE_MISSING.value,
            thumbnail_error_detail=detail[:DETAIL_LENGTH],
            thumbnail_error_recipe=recipe_in_force().digest,
            thumbnail_error_source=asset.source_version,
        ),
    )
    return with_history(asset, result)

"""Originals that were changed without the site: overwritten in place, moved or deleted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from thumbnails import conf
from thumbnails.batching import batched
from thumbnails.exceptions import Reason, SourceMissing, StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, Outcome, recipe_in_force
from thumbnails.models.assets import DETAIL_LENGTH, ImageAssetQuerySet
from thumbnails.models.results import Failure, Read, Result, save_results
from thumbnails.storage import originals
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.images.freshness import with_history

BATCH = 500
ERRORS_AT_MOST = 5
"""After that many a root is taken to be away, and the rest of it is skipped."""
SHARE_AT_MOST = 0.1
"""Of the originals of a root: if more are gone, a disk is probably not mounted."""
FEW = 20
"""Fewer than that may be gone whatever their share."""


@dataclass(slots=True, kw_only=True)
class RootRescan:
    """The findings of a rescan in one root of originals."""

    looked_at: int = 0
    gone: list[int] = field(default_factory=list)
    """Ids of assets whose original is gone."""
    errors: list[str] = field(default_factory=list)
    """Of the storage; ERRORS_AT_MOST end the rescan of the root."""

    def problem(self, root: str, allow_share: float) -> str:
        """Returns why `gone` must not be recorded; empty if it may be."""
        if self.errors:
            return self.errors[0]
        if len(self.gone) <= max(FEW - 1, allow_share * self.looked_at):
            return ""
        where = f" of the root {root}" if root else ""
        return (
            f"{len(self.gone):,} of {self.looked_at:,} originals{where} are gone: is a disk not "
            "mounted? Nothing was recorded of them."
        )


@dataclass(slots=True, kw_only=True)
class Rescan:
    """The findings of a rescan."""

    looked_at: int = 0
    changed: list[int] = field(default_factory=list)
    """Ids of assets whose original has changed since it was imported."""
    roots: dict[str, RootRescan] = field(default_factory=dict)
    """By the root's name; the main folder is under ""."""

    @property
    def gone(self) -> list[int]:
        return [asset_id for root in self.roots.values() for asset_id in root.gone]

    @property
    def errors(self) -> list[str]:
        return [error for root in self.roots.values() for error in root.errors]

    def problems(self, allow_share: float = SHARE_AT_MOST) -> dict[str, str]:
        """Returns, by root, why the originals that are gone there must not be recorded."""
        problems = {name: root.problem(name, allow_share) for name, root in self.roots.items()}
        return {name: problem for name, problem in problems.items() if problem}


def rescan(
    assets: ImageAssetQuerySet, *, save: bool, on_progress: Callable[[int], None] = lambda _: None
) -> Rescan:
    """Compare each original's size and modification time; only changed ones are read.

    A root whose storage fails is skipped from then on. `save` records those that changed, which
    makes their thumbnails stale. `record_gone` records those that are gone, once their number is
    known.
    """
    found = Rescan()
    for batch in _batches(assets):
        changed = list(_changed_ones(batch, found))
        found.changed += [asset.pk for asset, _ in changed]
        found.looked_at += len(batch)
        if save:
            # A void result needs no retry: the row was just written by another process.
            save_results(_changed(*one) for one in changed)
        on_progress(found.looked_at)
    return found


def record_gone(found: Rescan, *, allow_share: float = SHARE_AT_MOST) -> int:
    """Record the failure of those that are gone, except in roots with a problem. Returns their
    number. Their thumbnails are kept and served."""
    problems = found.problems(allow_share)
    gone = [i for name, root in found.roots.items() if name not in problems for i in root.gone]
    for part in batched(gone, BATCH):
        save_results(map(_gone, ImageAsset.objects.filter(pk__in=part)))
    return len(gone)


def _batches(assets: ImageAssetQuerySet) -> Iterator[list[ImageAsset]]:
    last = 0
    while batch := list(assets.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def _changed_ones(batch: list[ImageAsset], found: Rescan) -> Iterator[tuple[ImageAsset, str]]:
    """Yields assets with the version that their original has now."""
    for asset in batch:
        name = str(asset.original.name)
        root = found.roots.setdefault(originals.root_of(name), RootRescan())
        if len(root.errors) >= ERRORS_AT_MOST:
            continue
        root.looked_at += 1
        try:
            version = originals.source_version(name)
        except SourceMissing:
            root.gone.append(asset.pk)
        except StorageFailure as error:
            root.errors.append(str(error))
        else:
            if version != asset.source_version:
                yield asset, version


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
            accepted_source=asset.accepted_source,
        ),
    )
    return with_history(asset, result)

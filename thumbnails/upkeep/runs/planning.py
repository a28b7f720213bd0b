"""The plan of a run: numbers of images, space and time."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from django.core.files.storage import FileSystemStorage
from django.db.models import Avg, Sum
from django.template.defaultfilters import filesizeformat

from thumbnails.exceptions import NoSpace
from thumbnails.models import ImageAsset, Run, State
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.models.recipes import own_recipe
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images.lost_files import lost_files
from thumbnails.upkeep.runs import estimate
from thumbnails.upkeep.runs.estimate import Estimate

BYTES_GUESSED = 12_000
"""Per thumbnail, while there is none to measure: a photo's at 256 pixels and quality 85."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do."""

    states: dict[State, int]
    """Numbers of assets that it would work on, by state."""
    skipped: int
    """Number of fresh ones that it would skip."""
    accepted: int
    """Number of those that it would skip, too, as their failure is accepted."""
    deleted: int
    """Number of thumbnails that a purge deletes: fewer than its assets where some have none."""
    size_bytes: int
    """Of the thumbnails: for a regeneration those it leaves, for a purge those it deletes."""
    estimate: Estimate | None
    """By the last runs; None if none of them tells."""

    @property
    def total(self) -> int:
        return sum(self.states.values())


def skips_fresh(kind: Run.Kind, *, force: bool) -> bool:
    """Whether a run skips assets whose thumbnails are fresh."""
    return kind == Run.Kind.REGENERATE and not force


def to_do(kind: Run.Kind, assets: ImageAssetQuerySet, *, force: bool) -> ImageAssetQuerySet:
    """Returns those of the assets that a run has to work on."""
    return assets.not_fresh() if skips_fresh(kind, force=force) else assets


def plan(
    kind: Run.Kind,
    assets: ImageAssetQuerySet,
    *,
    force: bool = False,
    look_at_files_up_to: int | None = None,
) -> Plan:
    """Returns the plan of a run over these assets. Changes nothing.

    For a regeneration, checks for lost files, unless there are more assets than
    `look_at_files_up_to`.
    """
    states = assets.count_by_state()
    total, skipped, accepted, deleted = sum(states.values()), 0, 0, 0
    if kind == Run.Kind.PURGE:
        deleted = assets.exclude(thumbnail_path="").count()
        summed = assets.aggregate(size=Sum("thumbnail_bytes", default=0))["size"]
        size_bytes = round(summed * with_variants())
    else:
        if look_at_files_up_to is None or total <= look_at_files_up_to:
            lost = sum(1 for _ in lost_files(assets))
            states[State.MISSING] += lost
            states[State.FRESH] -= lost
        if skips_fresh(kind, force=force):
            skipped, states[State.FRESH] = states[State.FRESH], 0
            accepted, states[State.ACCEPTED] = states[State.ACCEPTED], 0
        total -= skipped + accepted
        size_bytes = total * mean_bytes()
    return Plan(
        states=states,
        skipped=skipped,
        accepted=accepted,
        deleted=deleted,
        size_bytes=size_bytes,
        estimate=estimate.by_runs(kind, total) if total else None,
    )


def mean_bytes() -> int:
    """Returns about the mean size of a thumbnail with its variants."""
    mean = ImageAsset.objects.aggregate(mean=Avg("thumbnail_bytes"))["mean"]
    return round((mean or BYTES_GUESSED) * with_variants())


def with_variants() -> float:
    """Returns about how many times the size of a thumbnail it has with its variants."""
    recipe = own_recipe()
    # Photos of twice the width take about three times the bytes.
    return 1 + sum(math.pow(variant.size_px / recipe.size_px, 1.5) for variant in recipe.variants)


def free_bytes() -> int | None:
    """Returns the free space of the cache's disk; None for other storages. Raises OSError."""
    store = cache.storage()
    if not isinstance(store, FileSystemStorage):
        return None
    return shutil.disk_usage(cache.existing_folder(Path(store.location))).free


def check_space(assets: ImageAssetQuerySet) -> None:
    """Raises NoSpace if the missing thumbnails of these assets clearly do not fit."""
    free = free_bytes()
    if free is None:
        return
    needed = assets.filter(thumbnail_path="").count() * mean_bytes()
    if needed > free:
        raise NoSpace(
            f"About {filesizeformat(needed)} are needed and {filesizeformat(free)} are free "
            "in the cache."
        )

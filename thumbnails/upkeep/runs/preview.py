"""A preview of a run: a few images rendered with the recipe in force. Nothing is replaced."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db.models import Case, Count, F, IntegerField, Min, Value, When

from thumbnails.exceptions import Busy, StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, State
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.rendering import Difference
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.runs import estimate
from thumbnails.upkeep.runs.estimate import Estimate
from thumbnails.upkeep.selection.conditions import SIZE_CLASSES

PREVIEWED = 12
SECONDS_AT_MOST = 10.0
"""A user is waiting for the page: after that no further image is begun."""
ROWS_AT_LEAST, ROWS_AT_MOST = 1_000, 50_000
"""Rows that a sample is drawn from, of more: grouping a million takes the database seconds."""
STRATUM = ("format", "orientation", "size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One image of a preview."""

    asset: ImageAsset
    stands_for: float
    """As of Sampled."""
    took_seconds: float
    """How long the render took, or its failure."""
    old: bytes | None
    """The thumbnail in the cache; None if there is none."""
    new: bytes | None
    """The new thumbnail; None if rendering fails, and `failure` says why."""
    failure: str = ""
    difference: Difference | None = None
    """None if one of the two is missing or damaged."""

    @property
    def is_new(self) -> bool:
        """Whether there is no thumbnail yet that it would replace."""
        return self.old is None and self.new is not None


def preview(assets: ImageAssetQuerySet) -> list[Preview]:
    """Render a sample of up to PREVIEWED of the assets. Replaces and records nothing."""
    give_up_at = time.monotonic() + SECONDS_AT_MOST
    previews: list[Preview] = []
    for sampled in sample(assets, PREVIEWED):
        if previews and time.monotonic() > give_up_at:
            break
        previews.append(
            _preview_one(sampled, patience_seconds=max(1.0, give_up_at - time.monotonic()))
        )
    return previews


def estimate_of(previews: Sequence[Preview], total: int, workers: int) -> Estimate | None:
    """Returns how long a run over `total` images takes that many workers; None if not known."""
    took = [(each.took_seconds, each.stands_for) for each in previews]
    return estimate.by_preview(took, total, workers)


def _preview_one(sampled: "Sampled", *, patience_seconds: float) -> Preview:
    asset, stands_for = sampled
    old = new = difference = None
    failure = ""
    with suppress(StorageFailure):
        old = cache.read(asset.thumbnail_path) if asset.thumbnail_path else None
    began_at = time.monotonic()
    try:
        new = serving.preview(asset, patience_seconds=patience_seconds).content
    except (ThumbnailError, Busy) as error:
        failure = str(error)
    took_seconds = time.monotonic() - began_at
    if old and new:
        with suppress(ThumbnailError, Busy):  # the old one is damaged
            difference = serving.compare(old, new)
    return Preview(
        asset=asset,
        stands_for=stands_for,
        took_seconds=took_seconds,
        old=old,
        new=new,
        failure=failure,
        difference=difference,
    )


# --- the sample -----------------------------------------------------------------------------------


class Sampled(NamedTuple):
    """An image of a sample."""

    asset: ImageAsset
    stands_for: float
    """Number of images of the same format, orientation and size for each of them in the sample."""


@dataclass(slots=True)
class _Stratum:
    """Images of the same format, orientation and size."""

    number: int = 0
    stale: list[int] = field(default_factory=list)
    """Ids of some, spread over all, in ascending order."""
    others: list[int] = field(default_factory=list)

    def some(self, size: int, turn: int) -> list[int]:
        """Returns up to `size` of the ids, stale ones if there are as many, from ranges that differ
        with `turn`."""
        from_stale = min(size, len(self.stale))
        rest = min(size - from_stale, len(self.others))
        return [*_spread(self.stale, from_stale, turn), *_spread(self.others, rest, turn)]


def _spread(ids: list[int], size: int, turn: int) -> list[int]:
    return [ids[(len(ids) * step // size + turn) % len(ids)] for step in range(size)]


def sample(assets: ImageAssetQuerySet, size: int) -> list[Sampled]:
    """Returns up to `size` of the assets, stale ones first.

    A sample stratified by format, orientation and size of the originals: one of each where there
    is room, otherwise of each that has stale ones and of the most frequent. The rest of the room
    is shared out in proportion. Within each they are stale if possible, and spread over the ids.
    """
    strata = _strata(assets, size)
    seats = _seats(list(strata.values()), size)
    chosen = {
        asset_id: key
        for turn, (key, stratum) in enumerate(strata.items())
        for asset_id in stratum.some(seats[turn], turn)
    }
    if len(chosen) < size:  # ids are clustered, or there are few
        for asset_id, *values in (
            _by_stratum(assets).order_by("pk").values_list("pk", *STRATUM)[: 2 * size]
        ):
            if len(chosen) < size:
                chosen.setdefault(asset_id, tuple(values))
    per_stratum = Counter(chosen.values())
    found = ImageAsset.objects.in_bulk(chosen)
    sampled = [
        Sampled(found[i], strata[key].number / per_stratum[key])
        for i, key in sorted(chosen.items())
        if i in found and key in strata
    ]
    return sorted(sampled, key=lambda each: each.asset.state != State.STALE)


def _by_stratum(assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
    sizes = [
        When(assets.of_megapixels(at_least, below), then=Value(number))
        for number, (at_least, below) in enumerate(SIZE_CLASSES)
    ]
    return assets.annotate(size=Case(*sizes, output_field=IntegerField()))


def _strata(assets: ImageAssetQuerySet, parts: int) -> dict[tuple[object, ...], _Stratum]:
    """Returns each stratum with an example of each state in each of so many equal ranges of ids."""
    ids = assets.order_by("pk").values_list("pk", flat=True)
    first, last = ids.first(), ids.last()
    if first is None or last is None:
        return {}
    part = (F("pk") - Value(first)) / Value((last - first) // parts + 1)
    groups = _by_stratum(assets).with_state().annotate(part=part).order_by()
    every = _odd((last - first) // ROWS_AT_MOST + 1)
    found = _grouped(groups.annotate(rest=F("pk") % Value(every)).filter(rest=first % every), every)
    if every > 1 and sum(stratum.number for stratum in found.values()) < ROWS_AT_LEAST * every:
        return _grouped(groups, 1)  # it has few of the ids between
    return found


def _odd(number: int) -> int:
    """Returns that number or one a little greater, such that kinds of images that come by turns of
    two, five or ten do not fall through."""
    while number > 1 and (number % 2 == 0 or number % 5 == 0):
        number += 1
    return number


def _grouped(rows: ImageAssetQuerySet, every: int) -> dict[tuple[object, ...], _Stratum]:
    """Returns the strata of these rows, which stand for `every` so many each."""
    counted = rows.values_list(*STRATUM, "current_state", "part").annotate(Count("pk"), Min("pk"))
    found: dict[tuple[object, ...], _Stratum] = {}
    for *key, state, _, number, example in sorted(counted, key=lambda row: row[-1]):
        stratum = found.setdefault(tuple(key), _Stratum())
        stratum.number += number * every
        (stratum.stale if state == State.STALE else stratum.others).append(example)
    return found


def _seats(strata: list[_Stratum], size: int) -> list[int]:
    """Returns how many of the `size` images of a sample each stratum has."""
    by_claim = sorted(strata, key=lambda one: (not one.stale, -one.number))
    first = {id(one) for one in by_claim[:size]}
    seats = [int(id(one) in first) for one in strata]
    for _ in range(size - sum(seats)):
        # The method of Sainte-Laguë.
        claims = [
            one.number / (2 * has + 1) if has < len(one.stale) + len(one.others) else 0
            for one, has in zip(strata, seats, strict=True)
        ]
        if not any(claims):
            break
        seats[claims.index(max(claims))] += 1
    return seats

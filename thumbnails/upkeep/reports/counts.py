"""Numbers about all assets: cached counts for pages, and statistics for operators.

Counting a million assets takes about a second, too long for a page. The workers update one count
at a time, and the longer it takes the less often. On a small site pages count themselves.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Aggregate, BigIntegerField, Case, Count, Min, Sum, Value, When
from django.db.models.expressions import Combinable
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Left
from django.utils import timezone

from thumbnails.models import CachedCount, ImageAsset, State, recipe_in_force
from thumbnails.models.recipes import known_suffixes
from thumbnails.rendering import THUMBNAIL
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.names import SHARDS
from thumbnails.upkeep import queue
from thumbnails.upkeep.selection.conditions import SIZE_CLASSES, Selection

SMALL = 5_000
"""Up to this many assets are counted immediately: that takes some milliseconds."""
LOOK_SECONDS = 4.5
OLD_AFTER = timedelta(seconds=10)
OLD_AT_ONCE = timedelta(seconds=1)
"""On a small site, where current numbers are expected."""
REST = 50
"""Seconds until a count that took one second is due again: 2 % of one process's time."""

TEXTS_AT_MOST = 100
"""Of a fact that is any text: the most frequent ones."""


def _states() -> dict[str, int]:
    return {state.value: n for state, n in ImageAsset.objects.count_by_state().items()}


def _originals() -> dict[str, dict[str, int]]:
    """By orientation, format and mode, in one query, since they have few combinations."""
    columns = ("orientation", "format", "mode")
    numbers: dict[str, Counter[str]] = {column: Counter() for column in columns}
    rows = ImageAsset.objects.order_by().values_list(*columns).annotate(number=Count("pk"))
    for *values, number in rows:
        for column, value in zip(columns, values, strict=True):
            # As text, like the keys of the stored JSON.
            numbers[column][str(value)] += number
    return {column: dict(counter) for column, counter in numbers.items()}


def _facts() -> dict[str, dict[str, int]]:
    """By condition and its text: what has few combinations in one query, and the most frequent
    texts, each in a query that an index answers."""
    alpha = Case(
        When(has_alpha=True, then=Value("yes")),
        When(has_alpha=False, then=Value("no")),
        default=Value(""),
    )
    frames = Case(
        When(frames=1, then=Value("1")), When(frames__gt=1, then=Value("2-")), default=Value("")
    )
    columns: dict[str, str | Combinable] = {
        "compression": "compression",
        "bit-depth": "bit_depth",
        "alpha": alpha,
        "frames": frames,
        "note": "note",
    }
    numbers: dict[str, Counter[str]] = {name: Counter() for name in columns}
    rows = ImageAsset.objects.order_by().values_list(*columns.values())
    for *values, number in rows.annotate(Count("pk")):
        for name, value in zip(columns, values, strict=True):
            if value:
                numbers[name][str(value)] += number
    texts = {"camera": "camera", "software": "software", "profile": "color_profile"}
    return {
        **{name: dict(counter) for name, counter in numbers.items()},
        **{name: _most_frequent(column) for name, column in texts.items()},
    }


def _most_frequent(column: str) -> dict[str, int]:
    named = ImageAsset.objects.exclude(**{column: ""}).order_by().values_list(column)
    return dict(named.annotate(number=Count("pk")).order_by("-number", column)[:TEXTS_AT_MOST])


def _sizes() -> dict[str, int]:
    """By the class's lower bound in megapixels, in one query."""
    counts = {
        f"from_{number}": Count("pk", filter=ImageAsset.objects.of_megapixels(at_least, below))
        for number, (at_least, below) in enumerate(SIZE_CLASSES)
    }
    counted = ImageAsset.objects.aggregate(**counts)
    return {
        f"{at_least:g}": counted[f"from_{number}"]
        for number, (at_least, _) in enumerate(SIZE_CLASSES)
    }


def _shards() -> dict[str, list[Any]]:
    """By shard: files, bytes, when the oldest was made, according to the database."""
    rows = (
        ImageAsset.objects.exclude(thumbnail_path="")
        .order_by()
        .values_list(Left("thumbnail_path", 2))
        .annotate(Count("pk"), Sum("thumbnail_bytes", default=0), Min("thumbnail_generated_at"))
    )
    return {
        shard: [files, size_bytes, oldest.isoformat() if oldest else None]
        for shard, files, size_bytes, oldest in rows
    }


def _variants() -> dict[str, list[int]]:
    """By suffix: files, bytes, according to the database, in one query besides that of suffixes."""
    suffixes = known_suffixes()
    if not suffixes:
        return {}
    numbers: dict[str, Aggregate] = {}
    for number, suffix in enumerate(suffixes):
        size = Cast(KT(f"thumbnail_variants__{suffix}__2"), BigIntegerField())
        numbers |= {f"files_{number}": Count(size), f"bytes_{number}": Sum(size, default=0)}
    counted = ImageAsset.objects.exclude(thumbnail_variants={}).aggregate(**numbers)
    return {
        suffix: [counted[f"files_{number}"], counted[f"bytes_{number}"]]
        for number, suffix in enumerate(suffixes)
        if counted[f"files_{number}"]
    }


COUNTERS: dict[str, Callable[[], dict[str, Any]]] = {
    "states": _states,
    "reasons": ImageAsset.objects.count_by_reason,
    "accepted": partial(ImageAsset.objects.count_by_reason, State.ACCEPTED),
    "recipes": partial(ImageAsset.objects.count_by_recipe, besides=""),
    "shards": _shards,
    "variants": _variants,
    "originals": _originals,
    "facts": _facts,
    "sizes": _sizes,
}
OF_RECIPE = {"states", "reasons", "accepted"}
"""Counts that are void when the recipe in force changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCounts:
    """The numbers as last counted; absent ones were not counted yet."""

    values: dict[str, dict[str, Any]]
    counted_at: datetime | None
    """When the oldest was counted; None while one is absent or void."""
    is_small: bool
    """Whether the site has so few assets that pages count them."""

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.values.get(name, {})


def cached_counts() -> CachedCounts:
    """Returns all cached counts; on a small site counts those that are due."""
    kept = {cached.name: cached for cached in _known() if _holds(cached)}
    is_small = ImageAsset.objects.order_by()[: SMALL + 1].count() <= SMALL
    if is_small:
        counted = {
            name: _count(name)
            for name in COUNTERS
            if name not in kept or kept[name].age > OLD_AT_ONCE
        }
        if counted:
            _keep(counted.values())
        kept |= counted
    complete = len(kept) == len(COUNTERS)
    return CachedCounts(
        values={name: cached.value["numbers"] for name, cached in kept.items()},
        counted_at=min(cached.counted_at for cached in kept.values()) if complete else None,
        is_small=is_small,
    )


def number_of(selection: Selection) -> int | None:
    """Returns how many assets match, by the cached counts; None if it has to be counted.

    That is on a small site, and for selections without a cached count.
    """
    name = _name_of_count(selection)
    cached = CachedCount.objects.filter(name=name).first() if name else None
    if cached is None or not _holds(cached):
        return None
    numbers: dict[str, int] = cached.value["numbers"]
    if sum(numbers.values()) <= SMALL:
        return None
    if name == "sizes":
        return numbers.get(f"{selection.min_megapixels:g}")
    if name == "recipes":
        return sum(numbers.get(recipe, 0) for recipe in selection.recipes or ())
    # A worker of the version before counts no state that it does not know.
    return sum(numbers.get(state, 0) for state in selection.states or State)


def _name_of_count(selection: Selection) -> str | None:
    at_least, below = selection.min_megapixels, selection.max_megapixels
    names = {
        "states": Selection(states=selection.states),
        "recipes": Selection(recipes=selection.recipes),
        "sizes": Selection(min_megapixels=at_least, max_megapixels=below),
    }
    if (at_least, below) not in SIZE_CLASSES:
        del names["sizes"]
    return next((name for name, counted in names.items() if counted == selection), None)


def count_in_turn() -> None:
    """Update the count that is due longest, in one worker per LOOK_SECONDS. Raises QueueDown."""
    if queue.is_my_turn("counting", LOOK_SECONDS):
        count_due()


def count_due() -> str | None:
    """Update the count that is due longest. Returns its name, None if none is due."""
    kept = {cached.name: cached for cached in _known()}
    due = [name for name in COUNTERS if _is_due(kept.get(name))]
    if not due:
        return None
    never = datetime.min.replace(tzinfo=UTC)
    # Absent and void ones first.
    holding = {name: cached.counted_at for name, cached in kept.items() if _holds(cached)}
    name = min(due, key=lambda each: holding.get(each, never))
    _keep([_count(name)])
    return name


def _known() -> Iterable[CachedCount]:
    """Those in COUNTERS: an older version may have left others."""
    return CachedCount.objects.filter(name__in=COUNTERS)


def _is_due(cached: CachedCount | None) -> bool:
    if cached is None or not _holds(cached):
        return True
    return cached.age >= max(OLD_AFTER, timedelta(seconds=cached.took_seconds * REST))


def _holds(cached: CachedCount) -> bool:
    return cached.name not in OF_RECIPE or cached.value["recipe"] == recipe_in_force().digest


def _count(name: str) -> CachedCount:
    started_at = time.monotonic()
    return CachedCount(
        name=name,
        counted_at=timezone.now(),
        value={"numbers": COUNTERS[name](), "recipe": recipe_in_force().digest},
        took_seconds=time.monotonic() - started_at,
    )


def _keep(counted: Iterable[CachedCount]) -> None:
    CachedCount.objects.bulk_create(
        counted,
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["value", "counted_at", "took_seconds"],
    )


# --- counted on request ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The contents of one folder of the cache."""

    name: str
    files: int = 0
    size_bytes: int = 0
    oldest: datetime | None = None
    """When the oldest thumbnail in it was made, as far as the database was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantUse:
    """The files of one variant in the cache."""

    suffix: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The site's thumbnails in numbers."""

    assets: dict[State, int]
    failures: dict[str, int]
    """Failed assets by reason."""
    shards: list[Shard]
    """Thumbnails with their variants."""
    variants: list[VariantUse]
    """What the shards have of each variant, in order of suffixes."""
    recipe: str
    """Digest of the recipe in force."""
    other_recipes: dict[str, int]
    """Thumbnails of other recipes, by digest."""

    @property
    def files(self) -> int:
        return sum(shard.files for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards)


def statistics() -> Statistics:
    """Returns them, of the cache as its files are now. Raises StorageFailure."""
    recipe = recipe_in_force().digest
    shards = []
    files: Counter[str] = Counter()
    size_bytes: Counter[str] = Counter()
    for name in SHARDS:
        found = [file for file in cache.survey(name) if file.asset_id]
        together = sum(file.size_bytes for file in found)
        shards.append(Shard(name=name, files=len(found), size_bytes=together))
        for file in found:
            files[file.suffix] += 1
            size_bytes[file.suffix] += file.size_bytes
    return Statistics(
        assets=ImageAsset.objects.count_by_state(),
        failures=ImageAsset.objects.count_by_reason(),
        shards=shards,
        variants=[
            VariantUse(suffix=suffix, files=files[suffix], size_bytes=size_bytes[suffix])
            for suffix in sorted(files)
            if suffix != THUMBNAIL
        ],
        recipe=recipe,
        other_recipes=ImageAsset.objects.count_by_recipe(besides=recipe),
    )

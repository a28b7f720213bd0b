"""Ledger and cache held against each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from django.db.models import Count, Q, Sum

from thumbnails.cache import storage as cache
from thumbnails.cache.layout import SHARDS
from thumbnails.models import ImageAsset, State, recipe_in_force
from thumbnails.models.assets import NO_THUMBNAIL, Change, ImageAssetQuerySet, Outcome
from thumbnails.upkeep.selection import Selection

BATCH = 1000


def lost_files(assets: ImageAssetQuerySet) -> Iterator[int]:
    """The ids whose thumbnail the ledger calls fresh while its file is gone or cut short."""
    rows = assets.fresh().order_by("pk").values_list("pk", "thumbnail_path", "thumbnail_bytes")
    for asset_id, path, size_bytes in rows.iterator(chunk_size=10_000):
        if cache.size_bytes(path) != size_bytes:
            yield asset_id


def note_lost_files(assets: ImageAssetQuerySet) -> int:
    """Call missing in the ledger what is missing in the cache; gives how many there were."""
    lost = lost_files(assets)
    noted = 0
    while batch := list(islice(lost, BATCH)):
        ImageAsset.objects.write_down(
            Change(asset_id=asset_id, outcome=Outcome.PURGED, record=NO_THUMBNAIL)
            for asset_id in batch
        )
        noted += len(batch)
    return noted


def plan(selection: Selection, *, force: bool) -> dict[State, int]:
    """How many of each state a regeneration of the selection would render. Changes nothing."""
    assets = selection.existing_assets()
    found = assets.count_by_state()
    lost = sum(1 for _ in lost_files(assets))
    found[State.MISSING] += lost
    found[State.FRESH] -= lost
    if not force:
        found[State.FRESH] = 0
    return found


def purge_plan(selection: Selection) -> tuple[int, int, int]:
    """Assets, thumbnails and their bytes that a purge would take, by the ledger."""
    found = selection.assets().aggregate(
        assets=Count("pk"),
        files=Count("pk", filter=~Q(thumbnail_path="")),
        size_bytes=Sum("thumbnail_bytes", default=0),
    )
    return found["assets"], found["files"], found["size_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardUse:
    """What lies in one folder of the cache."""

    shard: str
    files: int
    size_bytes: int


def cache_use() -> list[ShardUse]:
    """Files and bytes by shard, as the cache really has them."""
    uses = []
    for shard in SHARDS:
        sizes = [file.size_bytes for file in cache.walk(shard)]
        uses.append(ShardUse(shard=shard, files=len(sizes), size_bytes=sum(sizes)))
    return uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The site's thumbnails in numbers."""

    assets: dict[State, int]
    failures: dict[str, int]
    """Failed assets by reason."""
    shards: list[ShardUse]
    recipe: str
    """Digest of the recipe in force."""
    other_recipes: dict[str, int]
    """Thumbnails still made by other recipes, by their digest."""


def statistics() -> Statistics:
    recipe = recipe_in_force().digest
    return Statistics(
        assets=ImageAsset.objects.count_by_state(),
        failures=ImageAsset.objects.count_by_reason(),
        shards=cache_use(),
        recipe=recipe,
        other_recipes=ImageAsset.objects.count_by_recipe(besides=recipe),
    )

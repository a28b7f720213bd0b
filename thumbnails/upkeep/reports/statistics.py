"""The site's thumbnails in numbers."""

from dataclasses import dataclass

from thumbnails.models import ImageAsset, State, recipe_in_force
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.names import SHARDS


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

"""Counts of the site's assets and thumbnails."""

from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat

from thumbnails.management.base import ThumbnailCommand
from thumbnails.models.recipes import labels
from thumbnails.upkeep.reports.counts import Statistics, statistics


class Command(ThumbnailCommand):
    uses_cache = True
    help = "Count assets by state, failures by reason, and what lies in the cache."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shards", action="store_true", help="the cache by shard, too")
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        found = statistics()
        if options["json"]:
            self.print_json(as_json(found, shards=options["shards"]))
            return
        self._rows("Assets", {state.label: n for state, n in found.assets.items()})
        if found.failures:
            self._rows("Failures", found.failures)
        self.stdout.write(f"Cache: {found.files:,} files, {filesizeformat(found.size_bytes)}")
        for variant in found.variants:
            size = filesizeformat(variant.size_bytes)
            self.stdout.write(f"  {variant.suffix:16} {variant.files:10,} {size}")
        if options["shards"]:
            for shard in found.shards:
                size = filesizeformat(shard.size_bytes)
                self.stdout.write(f"  {shard.name} {shard.files:8,} {size}")
        names = labels()
        self.stdout.write(f"Recipe in force: {found.recipe} ({names.get(found.recipe, 'unknown')})")
        if found.other_recipes:
            self._rows("Thumbnails of other recipes", found.other_recipes)
            for digest in found.other_recipes:
                self.stdout.write(f"  {digest} is {names.get(digest, 'unknown')}")

    def _rows(self, title: str, numbers: dict[str, int]) -> None:
        self.stdout.write(f"{title}:")
        for name, number in numbers.items():
            self.stdout.write(f"  {name:16} {number:10,}")


def as_json(found: Statistics, *, shards: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "assets": {state.value: number for state, number in found.assets.items()},
        "failures": found.failures,
        "cache": {"files": found.files, "bytes": found.size_bytes},
        "variants": {
            variant.suffix: {"files": variant.files, "bytes": variant.size_bytes}
            for variant in found.variants
        },
        "recipe": found.recipe,
        "otherRecipes": found.other_recipes,
    }
    if shards:
        value["shards"] = {
            shard.name: {"files": shard.files, "bytes": shard.size_bytes} for shard in found.shards
        }
    return value

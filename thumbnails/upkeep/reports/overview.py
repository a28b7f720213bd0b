"""The numbers of the admin's overview: thumbnails, cache, queue and the last runs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from thumbnails.models import Run, State, recipe_in_force
from thumbnails.models.runs import Progress, progress_of
from thumbnails.rendering import Recipe
from thumbnails.storage.names import SHARDS
from thumbnails.upkeep import queue
from thumbnails.upkeep.queue import QueueUse
from thumbnails.upkeep.reports.cache_files import FilesSeen, files_seen
from thumbnails.upkeep.reports.counts import Shard, VariantUse, cached_counts
from thumbnails.upkeep.runs import planning

T = TypeVar("T")

LAST_RUNS = 10
ORIGINALS_BY = ("orientation", "format", "mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The cached counts of all assets; None for those not counted yet."""

    counted_at: datetime | None
    """When the oldest was counted; None while one is absent."""
    states: dict[State, int] | None
    """As the plan of a run counts them: fresh ones whose files are known to be lost are missing."""
    files_seen: FilesSeen | None
    """The last look at the files themselves; None if there was none."""
    failures: dict[str, int] | None
    """Failed assets by reason, most frequent first."""
    recipe: Recipe
    """The one in force."""
    recipes: dict[str, int] | None
    """Thumbnails by digest of their recipe: the one in force, then the most frequent."""
    shards: list[Shard] | None
    """All shards, in order of their names, according to the database."""
    variants: list[VariantUse] | None
    """In order of suffixes, according to the database."""
    originals: dict[str, dict[str, int]] | None
    """Assets by `orientation`, `format` and `mode`, most frequent first."""
    free_bytes: int | None
    """Free space of the cache; None if unknown."""
    queue: QueueUse | None
    """None if the queue cannot be reached."""
    runs: list[tuple[Run, Progress]]
    """The last runs, newest first."""

    @property
    def files(self) -> int:
        return sum(shard.files for shard in self.shards or ())

    @property
    def size_bytes(self) -> int:
        """Of thumbnails and variants."""
        return self._thumbnail_bytes + sum(each.size_bytes for each in self.variants or ())

    @property
    def mean_bytes(self) -> int:
        """Of a thumbnail without its variants."""
        return round(self._thumbnail_bytes / self.files) if self.files else 0

    @property
    def _thumbnail_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards or ())


def overview(*, with_runs: bool = True) -> Overview:
    """Returns the overview, at the same cost on a site of any size."""
    kept = cached_counts()
    seen = files_seen(is_small=kept.is_small)

    def counted(name: str, shape: Callable[[Any], T]) -> T | None:
        return shape(kept.values[name]) if name in kept.values else None

    return Overview(
        counted_at=kept.counted_at,
        states=_with_lost(counted("states", _states), seen),
        files_seen=seen,
        failures=counted("reasons", _most_first),
        recipe=recipe_in_force(),
        recipes=counted("recipes", _recipes),
        shards=counted("shards", _shards),
        variants=counted("variants", _variants),
        originals=counted("originals", _originals),
        free_bytes=_free_bytes(),
        queue=queue.use_if_reachable(),
        runs=_last_runs() if with_runs else [],
    )


def _states(counted: dict[str, int]) -> dict[State, int]:
    return {state: counted.get(state.value, 0) for state in State}


def _with_lost(states: dict[State, int] | None, seen: FilesSeen | None) -> dict[State, int] | None:
    if states is None or seen is None or not seen.is_current:
        return states
    lost = min(seen.lost, states[State.FRESH])
    return {
        **states,
        State.MISSING: states[State.MISSING] + lost,
        State.FRESH: states[State.FRESH] - lost,
    }


def _originals(counted: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    # PostgreSQL's JSON does not preserve order.
    return {column: _most_first(counted[column]) for column in ORIGINALS_BY}


def _most_first(counted: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _recipes(counted: dict[str, int]) -> dict[str, int]:
    by_digest = _most_first(counted)
    current = recipe_in_force().digest
    return {current: by_digest.pop(current, 0), **by_digest}


def _shards(counted: dict[str, list[Any]]) -> list[Shard]:
    shards = []
    for name in SHARDS:
        files, size_bytes, oldest = counted.get(name, (0, 0, None))
        made_at = datetime.fromisoformat(oldest) if oldest else None
        shards.append(Shard(name=name, files=files, size_bytes=size_bytes, oldest=made_at))
    return shards


def _variants(counted: dict[str, list[int]]) -> list[VariantUse]:
    return [
        VariantUse(suffix=suffix, files=files, size_bytes=size_bytes)
        for suffix, (files, size_bytes) in sorted(counted.items())
    ]


def _free_bytes() -> int | None:
    with suppress(OSError):  # a lost mount
        return planning.free_bytes()
    return None


def _last_runs() -> list[tuple[Run, Progress]]:
    last = list(Run.objects.order_by("-pk")[:LAST_RUNS])
    progress = progress_of(last, with_ids=False)
    return [(run, progress[run.pk]) for run in last]

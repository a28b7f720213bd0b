"""Which assets somebody means: the same words at every door."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from thumbnails.cache import storage as cache
from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, State, TrainingSession
from thumbnails.models.assets import ImageAssetQuerySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions on assets, combined with *and*; None does not restrict."""

    ids: tuple[int, ...] | None = None
    """These, each of which must exist."""
    id_ranges: tuple[tuple[int, int], ...] | None = None
    """And those that exist from the first to the last of each pair."""
    from_date: date | None = None
    """Created on that day or later, in the site's time zone."""
    to_date: date | None = None
    """Created on that day or before."""
    session: str | None = None
    """A session's name."""
    shard: str | None = None
    """Two hexadecimal digits: whose thumbnails lie in that folder of the cache."""
    older_than_days: int | None = None
    """Whose thumbnails were made longer ago than that."""
    states: tuple[State, ...] | None = None
    """Whose thumbnails are in one of these states."""
    orientations: tuple[int, ...] | None = None
    """Whose original has one of these EXIF orientations, 1 to 8."""

    @property
    def is_everything(self) -> bool:
        return not self.as_json()

    def as_json(self) -> dict[str, Any]:
        """As it is kept on a run: what restricts, and nothing else."""
        values: dict[str, Any] = {
            "ids": list(self.ids) if self.ids is not None else None,
            "id_ranges": [list(pair) for pair in self.id_ranges] if self.id_ranges else None,
            "from_date": self.from_date.isoformat() if self.from_date else None,
            "to_date": self.to_date.isoformat() if self.to_date else None,
            "session": self.session,
            "shard": self.shard,
            "older_than_days": self.older_than_days,
            "states": [state.value for state in self.states] if self.states else None,
            "orientations": list(self.orientations) if self.orientations else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        words = [*self._words_of_assets(), *self._words_of_thumbnails()]
        return ", ".join(words) or "all images"

    def _words_of_assets(self) -> Iterator[str]:
        if self.ids is not None or self.id_ranges:
            ranges = [f"{first}-{last}" for first, last in self.id_ranges or ()]
            yield "ids " + _shortened([*map(str, self.ids or ()), *ranges])
        if self.from_date:
            yield f"created from {self.from_date}"
        if self.to_date:
            yield f"created to {self.to_date}"
        if self.session is not None:
            yield f"session {self.session}"
        if self.orientations:
            yield "orientation " + ", ".join(map(str, self.orientations))

    def _words_of_thumbnails(self) -> Iterator[str]:
        if self.states:
            yield " or ".join(state.value for state in self.states)
        if self.shard is not None:
            yield f"shard {self.shard}"
        if self.older_than_days is not None:
            yield f"thumbnails older than {self.older_than_days} days"

    def assets(self) -> ImageAssetQuerySet:
        """The assets it means. Raises UsageError for ids or a session that do not exist."""
        found = ImageAsset.objects.all()
        if self.ids is not None or self.id_ranges:
            named = Q(pk__in=_existing(self.ids or ()))
            for pair in self.id_ranges or ():
                named |= Q(pk__range=pair)
            found = found.filter(named)
        found = self._between_dates(found)
        if self.session is not None:
            found = found.filter(session=_session(self.session))
        if self.orientations:
            found = found.filter(orientation__in=self.orientations)
        return self._by_thumbnail(found)

    def _by_thumbnail(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        if self.states:
            assets = assets.in_state(*self.states)
        if self.shard is not None:
            assets = assets.filter(_in_shard(self.shard))
        if self.older_than_days is not None:
            since = timezone.now() - timedelta(days=self.older_than_days)
            assets = assets.filter(thumbnail_generated_at__lt=since)
        return assets

    def _between_dates(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        if self.from_date and self.to_date and self.to_date < self.from_date:
            raise UsageError(
                f"The dates end ({self.to_date}) before they begin ({self.from_date}).",
                about="to_date",
            )
        if self.from_date:
            assets = assets.created_from(self.from_date)
        if self.to_date:
            assets = assets.created_to(self.to_date)
        return assets

    def demand_images(self) -> None:
        """Raises UsageError where it means no image at all: somebody has mistyped."""
        if not self.assets().exists():
            raise UsageError(f"No image is meant by: {self}.")


def _existing(ids: Iterable[int]) -> list[int]:
    wanted = sorted(set(ids))
    known = set(ImageAsset.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    unknown = [asset_id for asset_id in wanted if asset_id not in known]
    if unknown:
        raise UsageError(
            f"There is no image with the id {_shortened(list(map(str, unknown)))}.", about="ids"
        )
    return wanted


def _shortened(words: list[str]) -> str:
    return ", ".join(words[:10]) + (f" and {len(words) - 10:,} more" if len(words) > 10 else "")


def _session(name: str) -> TrainingSession:
    session = TrainingSession.objects.filter(name=name).first()
    if session is None:
        raise UsageError(f"There is no session named {name!r}.", about="session")
    return session


def _in_shard(shard: str) -> Q:
    """By the ledger, and by what really lies there: a file may be there that no row tells of."""
    on_disk = [file.asset_id for file in cache.walk(shard)]
    return Q(thumbnail_path__startswith=f"{shard}/") | Q(pk__in=on_disk)

"""Which assets somebody means: the same words at every door."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from thumbnails.cache import storage as cache
from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, TrainingSession
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
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        words = []
        if self.ids is not None or self.id_ranges:
            ranges = [f"{first}-{last}" for first, last in self.id_ranges or ()]
            words.append("ids " + _shortened([*map(str, self.ids or ()), *ranges]))
        if self.from_date:
            words.append(f"created from {self.from_date}")
        if self.to_date:
            words.append(f"created to {self.to_date}")
        if self.session is not None:
            words.append(f"session {self.session}")
        if self.shard is not None:
            words.append(f"shard {self.shard}")
        if self.older_than_days is not None:
            words.append(f"thumbnails older than {self.older_than_days} days")
        return ", ".join(words) or "all images"

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
        if self.shard is not None:
            found = found.filter(_in_shard(self.shard))
        if self.older_than_days is not None:
            since = timezone.now() - timedelta(days=self.older_than_days)
            found = found.filter(thumbnail_generated_at__lt=since)
        return found

    def _between_dates(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        if self.from_date and self.to_date and self.to_date < self.from_date:
            raise UsageError(
                f"The dates end ({self.to_date}) before they begin ({self.from_date})."
            )
        if self.from_date:
            assets = assets.created_from(self.from_date)
        if self.to_date:
            assets = assets.created_to(self.to_date)
        return assets

    def existing_assets(self) -> ImageAssetQuerySet:
        """As `assets`, and raises UsageError where it means no image at all."""
        found = self.assets()
        if not found.exists():
            raise UsageError(f"No image is meant by: {self}.")
        return found


def _existing(ids: Iterable[int]) -> list[int]:
    wanted = sorted(set(ids))
    known = set(ImageAsset.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    unknown = [asset_id for asset_id in wanted if asset_id not in known]
    if unknown:
        raise UsageError(f"There is no image with the id {_shortened(list(map(str, unknown)))}.")
    return wanted


def _shortened(words: list[str]) -> str:
    return ", ".join(words[:10]) + (f" and {len(words) - 10:,} more" if len(words) > 10 else "")


def _session(name: str) -> TrainingSession:
    session = TrainingSession.objects.filter(name=name).first()
    if session is None:
        raise UsageError(f"There is no session named {name!r}.")
    return session


def _in_shard(shard: str) -> Q:
    """By the ledger, and by what really lies there: a file may be there that no row tells of."""
    on_disk = [file.asset_id for file in cache.walk(shard)]
    return Q(thumbnail_path__startswith=f"{shard}/") | Q(pk__in=on_disk)

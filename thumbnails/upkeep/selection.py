"""Which assets somebody means: the same words at every door."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, State, TrainingSession
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.storage import thumbnails as cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions on assets, combined with *and*; None does not restrict."""

    # --- which assets ---------------------------------------------------------------------------
    ids: tuple[int, ...] | None = None
    """These, each of which must exist."""
    id_ranges: tuple[tuple[int, int], ...] | None = None
    """And those that exist from the first to the last of each pair."""
    name: str | None = None
    """Whose original's name has each of these words in it."""
    session: str | None = None
    """A session's name."""
    from_date: date | None = None
    """Created on that day or later, in the site's time zone."""
    to_date: date | None = None
    """Created on that day or before."""

    # --- of which originals ---------------------------------------------------------------------
    orientations: tuple[int, ...] | None = None
    """With one of these EXIF orientations, 1 to 8."""
    formats: tuple[str, ...] | None = None
    """In one of these formats, such as JPEG."""
    modes: tuple[str, ...] | None = None
    """In one of these colour modes, by Pillow's names, such as CMYK."""
    min_megapixels: float | None = None
    """With so many million pixels or more."""
    max_megapixels: float | None = None
    """With fewer than that."""

    # --- with which thumbnails ------------------------------------------------------------------
    states: tuple[State, ...] | None = None
    """In one of these states."""
    reasons: tuple[Reason, ...] | None = None
    """That failed for one of these reasons."""
    recipes: tuple[str, ...] | None = None
    """Made by one of these recipes, by their digests."""
    shard: str | None = None
    """Two hexadecimal digits: in that folder of the cache."""
    older_than_days: int | None = None
    """Made longer ago than that."""
    generated_before: date | None = None
    """Made before that day."""

    @property
    def is_everything(self) -> bool:
        return not self.as_json()

    def as_json(self) -> dict[str, Any]:
        """As it is kept on a run: what restricts, and nothing else."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _as_json(value) for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        words = [
            *self._words_of_assets(),
            *self._words_of_originals(),
            *self._words_of_thumbnails(),
        ]
        return ", ".join(words) or "all images"

    def _words_of_assets(self) -> Iterator[str]:
        if self.ids is not None or self.id_ranges:
            ranges = [f"{first}-{last}" for first, last in self.id_ranges or ()]
            yield "ids " + _shortened([*map(str, self.ids or ()), *ranges])
        if self.name is not None:
            yield f"named {self.name}"
        if self.from_date:
            yield f"created from {self.from_date}"
        if self.to_date:
            yield f"created to {self.to_date}"
        if self.session is not None:
            yield f"session {self.session}"

    def _words_of_originals(self) -> Iterator[str]:
        if self.orientations:
            yield f"orientation {as_ranges(self.orientations)}"
        if self.formats:
            yield f"format {' or '.join(self.formats)}"
        if self.modes:
            yield f"mode {' or '.join(self.modes)}"
        if self.min_megapixels is not None:
            yield f"{self.min_megapixels:g} megapixels or more"
        if self.max_megapixels is not None:
            yield f"fewer than {self.max_megapixels:g} megapixels"

    def _words_of_thumbnails(self) -> Iterator[str]:
        if self.states:
            yield " or ".join(state.value for state in self.states)
        if self.reasons:
            yield f"failed as {' or '.join(reason.label for reason in self.reasons)}"
        if self.recipes:
            yield f"made by recipe {' or '.join(self.recipes)}"
        if self.shard is not None:
            yield f"shard {self.shard}"
        if self.older_than_days is not None:
            yield f"thumbnails older than {self.older_than_days} days"
        if self.generated_before is not None:
            yield f"thumbnails made before {self.generated_before}"

    def assets(self) -> ImageAssetQuerySet:
        """The assets it means. Raises UsageError for ids or a session that do not exist."""
        return self.narrow(ImageAsset.objects.all())

    def narrow(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        """Those of these assets that it means. Raises UsageError as `assets`."""
        return self._with_thumbnails(self._of_originals(self._of_assets(assets)))

    def _of_assets(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        if self.ids is not None or self.id_ranges:
            named = Q(pk__in=_existing(self.ids or ()))
            for pair in self.id_ranges or ():
                named |= Q(pk__range=pair)
            assets = assets.filter(named)
        for word in (self.name or "").split():
            assets = assets.filter(original__icontains=word)
        if self.session is not None:
            assets = assets.filter(session=_session(self.session))
        return self._between_dates(assets)

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

    def _of_originals(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        if self.orientations:
            assets = assets.filter(orientation__in=self.orientations)
        if self.formats:
            assets = assets.filter(format__in=self.formats)
        if self.modes:
            assets = assets.filter(mode__in=self.modes)
        return assets.with_megapixels(self.min_megapixels, self.max_megapixels)

    def _with_thumbnails(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        if self.states:
            assets = assets.in_state(*self.states)
        if self.reasons:
            assets = assets.failed().filter(thumbnail_error__in=self.reasons)
        if self.recipes:
            assets = assets.exclude(thumbnail_path="").filter(thumbnail_recipe__in=self.recipes)
        if self.shard is not None:
            assets = assets.filter(_in_shard(self.shard))
        if self.older_than_days is not None:
            since = timezone.now() - timedelta(days=self.older_than_days)
            assets = assets.filter(thumbnail_generated_at__lt=since)
        if self.generated_before is not None:
            assets = assets.generated_before(self.generated_before)
        return assets

    def demand_images(self) -> None:
        """Raises UsageError where it means no image at all: somebody has mistyped."""
        if not self.assets().exists():
            raise UsageError(f"No image is meant by: {self}.")


def as_ranges(numbers: Iterable[int]) -> str:
    """'2-8' for the numbers from 2 to 8, '3,6-8' for some of them."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _as_json(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [list(each) if isinstance(each, tuple) else each for each in value]
    return value


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

"""Filters of the list of images: each is a term of a selection, as the commands know them.

The numbers beside them are of all images, as they were counted last: counting them for each
combination of filters would take longer than anybody waits for a list.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, State, TrainingSession, recipe_in_force
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.rendering import FORMATS
from thumbnails.upkeep.reports.counts import MEGAPIXELS, CachedCounts, cached_counts
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

SEARCH = "q"
"""The list's search box, which is the term `name`."""
SESSIONS_SHOWN = 30
"""The newest ones; the list of sessions links to each."""
ORIENTATIONS = {
    "1": "upright",
    "2": "mirrored",
    "3": "upside down",
    "4": "mirrored, upside down",
    "5": "mirrored, on its side",
    "6": "lies on its left side",
    "7": "mirrored, on its other side",
    "8": "lies on its right side",
}
"""By EXIF's numbers (EXIF 2.3, tag 0x0112)."""


def selection_of(parameters: Mapping[str, str]) -> Selection:
    """What a list with these parameters shows. Raises UsageError."""
    texts = {name: text for name, text in parameters.items() if name in conditions.CONDITIONS}
    if words := parameters.get(SEARCH):
        texts["name"] = words
    return conditions.selection_from(texts)


def _narrowed(queryset: QuerySet[ImageAsset], texts: Mapping[str, str]) -> QuerySet[ImageAsset]:
    if not isinstance(queryset, ImageAssetQuerySet):
        raise TypeError("no images")
    try:
        return conditions.selection_from(texts).narrow(queryset)
    except UsageError as error:
        raise IncorrectLookupParameters(str(error)) from error


def _counts(request: HttpRequest) -> CachedCounts:
    """Fetched once for all filters of a page."""
    kept: Any = request
    if not hasattr(kept, "cached_counts"):
        kept.cached_counts = cached_counts()
    found: CachedCounts = kept.cached_counts
    return found


class TermFilter(admin.SimpleListFilter):
    """Offers some values of one term, and how many images have them."""

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [
            (value, label if number is None else f"{label} ({intcomma(number)})")
            for value, label, number in self.values(_counts(request))
        ]

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        """Value, label and number of images, None where it is not known."""
        raise NotImplementedError

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ImageAsset]
    ) -> QuerySet[ImageAsset]:
        return _narrowed(queryset, {str(self.parameter_name): self.value() or ""})


class StateFilter(TermFilter):
    title = "state"
    parameter_name = "state"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        for state in State:
            yield state.value, str(state.label), counted["states"].get(state)


class ReasonFilter(TermFilter):
    title = "reason of failure"
    parameter_name = "reason"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = counted["reasons"]
        for reason in Reason:
            if reason in numbers or reason == self.value():
                yield reason.value, reason.label, numbers.get(reason)


class OrientationFilter(TermFilter):
    title = "EXIF orientation"
    parameter_name = "orientation"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = counted["originals"].get("orientation", {})
        turned = sum(number for value, number in numbers.items() if value != "1")
        yield "2-8", "any but upright", turned if numbers else None
        for value, label in ORIENTATIONS.items():
            if value in numbers:
                yield value, f"{value}, {label}", numbers[value]


class FormatFilter(TermFilter):
    title = "format"
    parameter_name = "format"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = counted["originals"].get("format", {})
        for name in FORMATS:
            if name in numbers:
                yield name, name, numbers[name]


class ModeFilter(TermFilter):
    title = "colour mode"
    parameter_name = "mode"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        for name, number in sorted(counted["originals"].get("mode", {}).items()):
            if name:
                yield name, name, number


class SizeFilter(TermFilter):
    title = "size"
    parameter_name = "megapixels"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        for at_least, below in zip(MEGAPIXELS, (*MEGAPIXELS[1:], None), strict=True):
            words = f"{at_least:g} and more" if below is None else f"{at_least:g} to {below:g}"
            value = f"{at_least:g}-{'' if below is None else format(below, 'g')}"
            yield value, f"{words} megapixels", counted["sizes"].get(f"{at_least:g}")


class RecipeFilter(TermFilter):
    title = "recipe"
    parameter_name = "recipe"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        current = recipe_in_force().digest
        numbers = counted["recipes"]
        yield current, f"{current}, in force", numbers.get(current)
        for digest, number in numbers.items():
            if digest != current:
                yield digest, digest, number


class SessionFilter(TermFilter):
    title = "session"
    parameter_name = "session"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        newest = TrainingSession.objects.order_by("-pk").values_list("name", flat=True)
        names = list(newest[:SESSIONS_SHOWN])
        chosen = self.value()
        for name in [chosen, *names] if chosen and chosen not in names else names:
            yield name, name, None


class ShardFilter(TermFilter):
    """Nothing to choose from: the map of the cache leads here."""

    title = "shard"
    parameter_name = "shard"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        if chosen := self.value():
            yield chosen, chosen, counted["shards"].get(chosen, [None])[0]


class DatesFilter(admin.ListFilter):
    """Days to type in, in one form."""

    title = "dates"
    template = "admin/thumbnails/imageasset/dates_filter.html"
    LABELS: ClassVar = {
        "from-date": "created from",
        "to-date": "created to",
        "generated-before": "thumbnail made before",
    }

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: type[Model],
        model_admin: "admin.ModelAdmin[Any]",
    ) -> None:
        super().__init__(request, params, model, model_admin)
        # Like Django's own filters: what is taken from `params` is known to somebody.
        self.texts = {
            name: values[-1] for name in self.LABELS if (values := params.pop(name, None))
        }

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.LABELS)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """One, for the form: its fields, and what the other filters say."""
        others = changelist.get_filters_params()
        if changelist.query:
            others[SEARCH] = [changelist.query]
        yield {
            "fields": [
                {"name": name, "label": label, "value": self.texts.get(name, "")}
                for name, label in self.LABELS.items()
            ],
            "others": [
                (name, values[-1]) for name, values in others.items() if name not in self.LABELS
            ],
            "without": changelist.get_query_string(remove=list(self.LABELS)),
            "is_used": bool(self.texts),
        }

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ImageAsset]
    ) -> QuerySet[ImageAsset]:
        return _narrowed(queryset, self.texts)


FILTERS = (
    StateFilter,
    ReasonFilter,
    OrientationFilter,
    FormatFilter,
    ModeFilter,
    SizeFilter,
    RecipeFilter,
    SessionFilter,
    DatesFilter,
    ShardFilter,
)

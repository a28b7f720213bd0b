"""Filters of the list of images: each is a condition of a selection, as the commands' options are.

The numbers beside the choices are cached counts of all images: counting each combination of
filters would take too long for a page.
"""

from collections import Counter
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
from thumbnails.rendering import FORMATS, NO_TEXT
from thumbnails.storage import originals
from thumbnails.upkeep.images import tracked_fields
from thumbnails.upkeep.reports.counts import CachedCounts, cached_counts
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import SIZE_CLASSES, Selection

SEARCH = "q"
"""The parameter of the list's search box, which is the condition `name`."""
SESSIONS_SHOWN = 30
"""How many sessions are offered, the newest ones."""
FACTS_SHOWN = 20
"""How many values of a fact are offered, the most frequent ones; the page of each image links to
the lists of its own."""
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
ANY_BUT_UPRIGHT = "2-8"


def selection_of(parameters: Mapping[str, str]) -> Selection:
    """Returns the selection that a list with these parameters shows. Raises UsageError."""
    texts = {name: text for name, text in parameters.items() if name in conditions.CONDITIONS}
    if words := parameters.get(SEARCH):
        texts["name"] = words
    return conditions.selection_from(texts)


def _narrowed(queryset: QuerySet[ImageAsset], texts: Mapping[str, str]) -> QuerySet[ImageAsset]:
    if not isinstance(queryset, ImageAssetQuerySet):
        raise TypeError("not a queryset of images")
    try:
        return conditions.selection_from(texts).narrow(queryset)
    except UsageError as error:
        raise IncorrectLookupParameters(str(error)) from error


def _counts(request: HttpRequest) -> CachedCounts:
    """The cached counts, fetched once for all filters of a page."""
    kept: Any = request
    if not hasattr(kept, "cached_counts"):
        kept.cached_counts = cached_counts()
    found: CachedCounts = kept.cached_counts
    return found


class ConditionFilter(admin.SimpleListFilter):
    """Offers some values of one condition, each with its number of images."""

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [
            (value, label if number is None else f"{label} ({intcomma(number)})")
            for value, label, number in self.values(_counts(request))
        ]

    def has_output(self) -> bool:
        # Django applies none that offers nothing, also if it is given.
        return super().has_output() or self.value() is not None

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        """Yields value, label and number of images, None if it is unknown."""
        raise NotImplementedError

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ImageAsset]
    ) -> QuerySet[ImageAsset]:
        return _narrowed(queryset, {str(self.parameter_name): self.value() or ""})


class StateFilter(ConditionFilter):
    title = "state"
    parameter_name = "state"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        for state in State:
            yield state.value, str(state.label), counted["states"].get(state)


class ReasonFilter(ConditionFilter):
    title = "reason of failure"
    parameter_name = "reason"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = Counter(counted["reasons"]) + Counter(counted["accepted"])
        for reason in Reason:
            if reason in numbers or reason == self.value():
                yield reason.value, reason.label, numbers.get(reason)


class OrientationFilter(ConditionFilter):
    title = "EXIF orientation"
    parameter_name = "orientation"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = counted["originals"].get("orientation", {})
        turned = sum(number for value, number in numbers.items() if value != "1")
        yield ANY_BUT_UPRIGHT, "any but upright", turned if numbers else None
        for value, label in ORIENTATIONS.items():
            if value in numbers:
                yield value, f"{value}, {label}", numbers[value]


class FormatFilter(ConditionFilter):
    title = "format"
    parameter_name = "format"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = counted["originals"].get("format", {})
        for name in FORMATS:
            if name in numbers:
                yield name, name, numbers[name]


class ModeFilter(ConditionFilter):
    title = "colour mode"
    parameter_name = "mode"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        for name, number in sorted(counted["originals"].get("mode", {}).items()):
            if name:
                yield name, name, number


class SizeFilter(ConditionFilter):
    title = "size"
    parameter_name = "megapixels"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        for at_least, below in SIZE_CLASSES:
            words = f"{at_least:g} and more" if below is None else f"{at_least:g} to {below:g}"
            sizes = Selection(min_megapixels=at_least, max_megapixels=below)
            yield (
                sizes.as_texts()["megapixels"],
                f"{words} megapixels",
                counted["sizes"].get(f"{at_least:g}"),
            )


class FactFilter(ConditionFilter):
    """Offers the most frequent values of a fact of originals, if there are `at_least` so many."""

    at_least = 2
    is_name = False
    """Whether originals may name none."""

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        numbers = counted["facts"].get(str(self.parameter_name), {})
        offered = sorted(numbers, key=numbers.__getitem__, reverse=True)[:FACTS_SHOWN]
        if self.is_name and offered:
            offered.append(NO_TEXT)
        if (chosen := self.value()) and chosen not in offered:
            offered.append(chosen)
        if chosen or len(offered) >= self.at_least:
            for value in offered:
                yield value, self.label(value), numbers.get(value)

    def label(self, value: str) -> str:
        return value


class CameraFilter(FactFilter):
    title = "camera"
    parameter_name = "camera"
    is_name = True


class SoftwareFilter(FactFilter):
    title = "software"
    parameter_name = "software"
    is_name = True


class ProfileFilter(FactFilter):
    title = "colour profile"
    parameter_name = "profile"
    is_name = True


class CompressionFilter(FactFilter):
    title = "compression"
    parameter_name = "compression"


class BitDepthFilter(FactFilter):
    title = "bits a channel"
    parameter_name = "bit-depth"


class AlphaFilter(FactFilter):
    title = "alpha"
    parameter_name = "alpha"


class FramesFilter(FactFilter):
    title = "frames"
    parameter_name = "frames"

    def label(self, value: str) -> str:
        return "more than one" if value == "2-" else value


class NoteFilter(FactFilter):
    title = "shown in part"
    parameter_name = "note"
    at_least = 1


class RecipeFilter(ConditionFilter):
    title = "recipe"
    parameter_name = "recipe"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        current = recipe_in_force().digest
        numbers = counted["recipes"]
        yield current, f"{current}, in force", numbers.get(current)
        for digest, number in numbers.items():
            if digest != current:
                yield digest, digest, number


class RootFilter(ConditionFilter):
    """Offered where originals are in several roots."""

    title = "root"
    parameter_name = "root"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        labels = {field.root: field.label for field in tracked_fields.tracked_fields()}
        for root in originals.roots():
            yield root, labels.get(root, root), None


class SessionFilter(ConditionFilter):
    title = "session"
    parameter_name = "session"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        newest = TrainingSession.objects.order_by("-pk").values_list("name", flat=True)
        names = [self.value(), *newest[:SESSIONS_SHOWN]]
        for name in dict.fromkeys(filter(None, names)):
            yield name, name, None


class SessionIdFilter(ConditionFilter):
    """Offers the newest sessions whose names repeat, each by itself."""

    title = "session of a repeated name"
    parameter_name = "session-id"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        sessions = TrainingSession.objects.told_apart().order_by("-pk")
        offered = {str(each.pk): each for each in sessions[:SESSIONS_SHOWN] if each.name_repeats}
        chosen = self.value() or ""
        if chosen.isdecimal() and chosen not in offered:
            offered |= {str(each.pk): each for each in sessions.filter(pk=chosen)}
        for session_id, session in offered.items():
            yield session_id, str(session), None


class ShardFilter(ConditionFilter):
    """Offers no choice but the current one: the overview's heat map links here."""

    title = "shard"
    parameter_name = "shard"

    def values(self, counted: CachedCounts) -> Iterator[tuple[str, str, int | None]]:
        if chosen := self.value():
            yield chosen, chosen, counted["shards"].get(chosen, [None])[0]


class DatesFilter(admin.ListFilter):
    """A form with all conditions that are dates."""

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
        # Like Django's own filters: what remains in `params` is refused as unknown.
        self.texts = {
            name: values[-1] for name in self.LABELS if (values := params.pop(name, None))
        }

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.LABELS)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yields one, the form: its fields and the other filters' parameters."""
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
    CameraFilter,
    SoftwareFilter,
    ProfileFilter,
    CompressionFilter,
    BitDepthFilter,
    AlphaFilter,
    FramesFilter,
    NoteFilter,
    RecipeFilter,
    RootFilter,
    SessionFilter,
    SessionIdFilter,
    DatesFilter,
    ShardFilter,
)

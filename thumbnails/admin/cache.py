"""The overview of the cache in the admin: counts of all images, with links to their lists."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.humanize.templatetags.humanize import intcomma, naturaltime
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from thumbnails.admin import formatting
from thumbnails.admin.bounds import ReadOnlyAdmin, may_start_some
from thumbnails.admin.filters import ANY_BUT_UPRIGHT, ORIENTATIONS
from thumbnails.exceptions import UsageError
from thumbnails.models import Cache, ImageAsset, Run, State
from thumbnails.models.recipes import labels
from thumbnails.models.runs import Progress
from thumbnails.upkeep.reports.counts import Shard
from thumbnails.upkeep.reports.overview import Overview, overview
from thumbnails.upkeep.runs.invocation import plan_path
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

HEATS = {"files": "Files", "age": "Age of the oldest thumbnail"}

TO_REGENERATE = (State.MISSING, State.STALE, State.FAILED)
"""States whose thumbnails a regeneration renders."""
BAR = 1000
"""Width of the bar of states, in the SVG's units."""
MIN_SEGMENT = 12
"""Width of a state's segment at least, so that one with few images can be seen and clicked."""
CELL = 16
"""Side of a shard on the heat map."""
STEPS = 9
"""Levels of colour on the heat map."""
COLUMN, CHART = 24, 60
"""Width of a run's column on the chart of rates with the gap after it, and the chart's height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number of images, with a link to their list."""

    label: str
    number: int
    url: str = ""
    """Empty if they have no list or the user may not see it."""
    plan: str = ""
    """The URL of the plan to regenerate them; empty if none of them needs it or the user may not
    start it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A state's part of the bar of states."""

    state: State
    count: Count
    x: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A shard on the heat map."""

    shard: Shard
    x: int
    y: int
    step: int
    """Level of colour: 0 for an empty shard, up to STEPS for the highest value."""
    files: str
    size: str
    """Formatted here because the template shows both twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A run on the chart of rates."""

    run: Run
    rate: float
    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes counts with the links that the user may follow."""

    to_lists: bool
    to_plans: bool

    def count(
        self, label: str, number: int, texts: dict[str, str], *, is_planned: bool = True
    ) -> Count:
        """Returns the number of images that these texts select, as conditions by name."""
        address = reverse("admin:thumbnails_imageasset_changelist")
        return Count(
            label=label,
            number=number,
            url=f"{address}?{urlencode(texts)}" if self.to_lists else "",
            plan=_plan(texts) if self.to_plans and is_planned and number else "",
        )


def _plan(texts: dict[str, str]) -> str:
    try:
        return plan_path(Run.Kind.REGENERATE, conditions.selection_from(texts))
    except UsageError:  # what an older version has recorded
        return ""


@admin.register(Cache)
class CacheAdmin(ReadOnlyAdmin):
    class Media:
        css: ClassVar = {"all": ["thumbnails/overview.css"]}

    def get_urls(self) -> list[URLPattern]:
        """Only the overview: the images have their own admin."""
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="thumbnails_cache_changelist")]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        # Only users who may view runs see their numbers.
        with_runs = self._may_view(request, Run)
        found = overview(with_runs=with_runs)
        links = Links(
            to_lists=self._may_view(request, ImageAsset),
            to_plans=request.user.has_perm(Run.Kind.REGENERATE.permission),
        )
        return TemplateResponse(
            request,
            "admin/thumbnails/cache/overview.html",
            {
                **self.admin_site.each_context(request),
                **(extra_context or {}),
                "title": "Cache",
                "opts": self.model._meta,
                "media": self.media,
                "overview": found,
                "age": naturaltime(found.counted_at) if found.counted_at else "",
                "files_age": naturaltime(found.files_seen.at) if found.files_seen else "",
                "plans": _plans(request, found.states),
                "with_runs": with_runs,
                **_numbers(found, links),
                "may_plan": links.to_plans,
                **_heat_map(found.shards, request.GET.get("heat", "")),
                **_chart(found.runs),
            },
        )

    def _may_view(self, request: HttpRequest, model: type[ImageAsset] | type[Run]) -> bool:
        return bool(self.admin_site.get_model_admin(model).has_view_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Cache | None = None) -> bool:
        return self._may_view(request, ImageAsset) or may_start_some(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Cache | None = None) -> bool:
        return False


def _plans(
    request: HttpRequest, states: dict[State, int] | None
) -> list[tuple[str, str, Run.Kind]]:
    """Label, URL and kind of each plan that the user may open."""
    plans = [
        ("Regenerate all that is not fresh", Run.Kind.REGENERATE, Selection()),
        ("Purge everything", Run.Kind.PURGE, Selection()),
    ]
    if states and (stale := states[State.STALE]):
        label = f"Regenerate the {f'{intcomma(stale)} stale ones' if stale > 1 else 'stale one'}"
        plans.insert(1, (label, Run.Kind.REGENERATE, Selection(states=(State.STALE,))))
    return [
        (label, plan_path(kind, selection), kind)
        for label, kind, selection in plans
        if request.user.has_perm(kind.permission)
    ]


# --- numbers with their links ---------------------------------------------------------------------


def _numbers(found: Overview, links: Links) -> dict[str, Any]:
    recipes, names = found.recipes or {}, labels()
    return {
        "total": sum((found.states or {}).values()),
        "segments": _bar(found, links),
        "failures": [
            links.count(
                formatting.reason_label(reason),
                number,
                {"state": State.FAILED.value, "reason": reason},
            )
            for reason, number in (found.failures or {}).items()
        ],
        "accepted": links.count(
            "accepted",
            (found.states or {}).get(State.ACCEPTED, 0),
            {"state": State.ACCEPTED.value},
            is_planned=False,
        ),
        "recipes": [
            links.count(
                names.get(digest, f"unknown, {digest}"),
                number,
                {"recipe": digest},
                is_planned=digest != found.recipe.digest,
            )
            for digest, number in recipes.items()
        ],
        "originals": _originals(found.originals or {}, links),
    }


def _bar(found: Overview, links: Links) -> list[Segment]:
    states = found.states or {}
    widths = _widths(states)
    seen = found.files_seen
    is_any_lost = seen is not None and seen.is_current and seen.lost > 0
    segments, x = [], 0
    for state, number in states.items():
        texts, is_planned = {"state": state.value}, state in TO_REGENERATE
        count = links.count(str(state.label), number, texts, is_planned=is_planned)
        if count.plan and state == State.MISSING and is_any_lost:
            # Those whose files are lost are recorded as fresh: a plan over both finds them.
            count = replace(count, plan=_plan({"state": f"{State.MISSING},{State.FRESH}"}))
        segments.append(Segment(state=state, count=count, x=x, width=widths[state]))
        x += widths[state]
    return segments


def _widths(states: dict[State, int]) -> dict[State, int]:
    """Of the segments, which together fill the bar unless there are no images."""
    total = sum(states.values())
    widths = {
        state: max(MIN_SEGMENT, BAR * number // total) if number else 0
        for state, number in states.items()
    }
    if total:
        widest = max(widths, key=widths.__getitem__)
        widths[widest] += BAR - sum(widths.values())
    return widths


def _originals(originals: dict[str, dict[str, int]], links: Links) -> list[tuple[str, list[Count]]]:
    """Counts by the properties of originals that a fix of the renderer may concern."""
    lists = []
    for column, counted in originals.items():
        counts = [
            links.count(_original_label(column, value), number, {column: value})
            if value
            else Count(label=_original_label(column, value), number=number)
            for value, number in counted.items()
        ]
        if column == "orientation":
            turned = sum(number for value, number in counted.items() if value != "1")
            any_turned = links.count("any but upright", turned, {"orientation": ANY_BUT_UPRIGHT})
            counts.insert(0, any_turned)
        lists.append((column, counts))
    return lists


def _original_label(column: str, value: str) -> str:
    if not value:
        return "not known"
    if column == "orientation" and value in ORIENTATIONS:
        return f"{value}, {ORIENTATIONS[value]}"
    return value


# --- charts ---------------------------------------------------------------------------------------


def _heat_map(shards: list[Shard] | None, heat: str) -> dict[str, Any]:
    heat = heat if heat in HEATS else "files"
    now = timezone.now()
    heats = [_heat(shard, heat, now) for shard in shards or ()]
    most = max(heats, default=0)
    cells = [
        Cell(
            shard=shard,
            x=CELL * (number % 16),
            y=CELL * (number // 16),
            step=max(1, round(STEPS * value / most)) if value else 0,
            files=intcomma(shard.files),
            size=filesizeformat(shard.size_bytes),
        )
        for number, (shard, value) in enumerate(zip(shards or (), heats, strict=True))
    ]
    return {
        "heat": heat,
        "heats": HEATS,
        "cells": cells,
        "digits": [(f"{number:x}", CELL * number + CELL // 2) for number in range(16)],
        "most_files": max((shard.files for shard in shards or ()), default=0),
        "oldest": min((shard.oldest for shard in shards or () if shard.oldest), default=None),
    }


def _heat(shard: Shard, heat: str, now: datetime) -> int:
    if heat == "files":
        return shard.files
    if shard.oldest is None:
        return 0
    # At least 1, also for a thumbnail made just now or by a clock that is ahead.
    return max(1, (now - shard.oldest) // timedelta(seconds=1))


def _chart(runs: Iterable[tuple[Run, Progress]]) -> dict[str, Any]:
    """The known rates, with the newest run on the right."""
    rates = [(run, progress.rate) for run, progress in runs if progress.rate]
    highest = max((rate for _, rate in rates), default=1.0)
    columns = []
    for number, (run, rate) in enumerate(reversed(rates)):
        height = max(1, round(CHART * rate / highest))
        columns.append(
            Column(run=run, rate=rate, x=COLUMN * number, y=CHART - height, height=height)
        )
    return {
        "columns": columns,
        "chart_width": max(COLUMN * len(columns), 1),
        "highest_rate": highest,
    }

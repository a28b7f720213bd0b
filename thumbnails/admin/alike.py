"""The page that leads from one wrong picture to all that share what is wrong with it."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from thumbnails.admin import previews
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.reports.alike import Alike, SharedFact, choose_alike, find_alike
from thumbnails.upkeep.runs import invocation


def alike(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, asset_id: int
) -> HttpResponse:
    """What the image shares with others, to be ticked: the address has what is ticked, if its form
    has written it. Raises PermissionDenied."""
    asset = _asset(model_admin, request, asset_id)
    found = find_alike(asset, request.GET.dict() if "chosen" in request.GET else None)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Find others like this",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "asset": asset,
        "thumbnail_url": previews.cached_url(asset),
        "rows": list(_rows(found.facts)),
        **_of_chosen(request, found),
    }
    return TemplateResponse(request, "admin/thumbnails/imageasset/alike.html", context)


def chosen(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, asset_id: int
) -> HttpResponse:
    """The part of that page about what is ticked, for its script. Raises PermissionDenied."""
    found = choose_alike(_asset(model_admin, request, asset_id), request.GET.dict())
    return TemplateResponse(
        request, "admin/thumbnails/imageasset/alike_chosen.html", _of_chosen(request, found)
    )


def _asset(model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, asset_id: int) -> ImageAsset:
    if not model_admin.has_view_or_change_permission(request):
        raise PermissionDenied
    return get_object_or_404(ImageAsset, pk=asset_id)


def _of_chosen(request: HttpRequest, found: Alike) -> dict[str, Any]:
    kind, selection = Run.Kind.REGENERATE, found.selection
    may_start = request.user.has_perm(kind.permission)
    return {
        "found": found,
        "plan": may_start and invocation.plan_path(kind, selection, force=found.force),
        "command": invocation.command_line(kind, selection, force=found.force),
    }


def _rows(facts: Iterable[SharedFact]) -> Iterator[tuple[SharedFact, str]]:
    """Yields each fact with the kind of its input. Several of a condition, which are sessions,
    exclude each other, and a choice of none follows them."""
    for condition, group in groupby(facts, key=attrgetter("condition")):
        of_one = list(group)
        if len(of_one) == 1:
            yield of_one[0], "checkbox"
            continue
        none = SharedFact(
            condition=condition,
            text="",
            words="In any session, or in none",
            is_chosen=not any(fact.is_chosen for fact in of_one),
        )
        for fact in (*of_one, none):
            yield fact, "radio"

"""Public views: the gallery and the thumbnails."""

from typing import Any
from urllib.parse import urlencode

from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotFound,
)
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_safe

from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, TrainingSession
from thumbnails.rendering import THUMBNAIL
from thumbnails.responses import (
    Unavailable,
    remember_not_found,
    thumbnail_response,
    unavailable_response,
)
from thumbnails.storage.names import shard_for
from thumbnails.upkeep.reports import counts
from thumbnails.upkeep.selection import conditions, pages
from thumbnails.upkeep.selection.conditions import Selection

PER_PAGE = 100
SESSIONS_SUGGESTED = 100


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """The images, the newest first; those of a name and of a session, if the address has one."""
    texts = {name: request.GET.get(name, "") for name in ("name", "session")}
    before = request.GET.get("before")
    context: dict[str, Any] = {
        "texts": texts,
        "looked_through": pages.LOOKED_THROUGH,
        "newest": _query(texts) if before else "",
    }
    try:
        position = pages.position_from(before) if before else None
        selection = conditions.selection_from(texts)
        found = context["page"] = pages.search(selection, size=PER_PAGE, before=position)
        if found.next_before is not None:
            context["next"] = _query(texts, before=found.next_before.text)
        if selection.name is None:
            context["total"] = _total(selection)
    except UsageError as error:
        context["problem"] = str(error)
    if _may(request, "thumbnails.view_trainingsession"):
        names = TrainingSession.objects.order_by("-pk").values_list("name", flat=True)
        context["sessions"] = dict.fromkeys(names[:SESSIONS_SUGGESTED])
    return render(request, "thumbnails/gallery.html", context)


@require_safe
def image(request: HttpRequest, asset_id: int) -> HttpResponse:
    """One image and what the public may know of it: nothing of folders, sessions and failures."""
    asset = ImageAsset.objects.filter(pk=asset_id).first()
    if asset is None:
        raise Http404("There is no such image.")
    context = {"asset": asset, "admin_url": ""}
    if _may(request, "thumbnails.view_imageasset", "thumbnails.change_imageasset"):
        context["admin_url"] = _admin_url(asset)
    return render(request, "thumbnails/image.html", context)


def _query(texts: dict[str, str], **more: str) -> str:
    return "?" + urlencode({name: text for name, text in {**texts, **more}.items() if text})


def _total(selection: Selection) -> int:
    known = counts.number_of(selection)
    return pages.count(selection) if known is None else known


def _may(request: HttpRequest, *permissions: str) -> bool:
    """Whether the user is of the staff and has one of them; a project may have no users."""
    user: Any = getattr(request, "user", None)
    return getattr(user, "is_staff", False) and any(map(user.has_perm, permissions))


def _admin_url(asset: ImageAsset) -> str:
    try:
        return reverse("admin:thumbnails_imageasset_change", args=[asset.pk])
    except NoReverseMatch:  # a project without the admin
        return ""


@require_safe
def thumbnail(
    request: HttpRequest, shard: str, asset_id: int, suffix: str = THUMBNAIL
) -> HttpResponseBase:
    """The cached thumbnail or its variant with that suffix, rendered now if there is none.

    404 for an unknown asset or variant, a wrong shard, and a missing or broken original; 503 if it
    is temporarily unavailable.
    """
    answer = None
    try:
        if shard == shard_for(asset_id):
            answer = thumbnail_response(request, asset_id, suffix)
    except Unavailable as error:
        return unavailable_response(error)
    if answer is None:
        answer = HttpResponseNotFound("There is no such thumbnail.\n", content_type="text/plain")
        remember_not_found(answer)
    return answer

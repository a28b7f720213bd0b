"""Public views: the gallery and the thumbnails."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotFound
from django.shortcuts import render
from django.views.decorators.http import require_safe

from thumbnails.models import ImageAsset
from thumbnails.rendering import THUMBNAIL
from thumbnails.responses import (
    Unavailable,
    remember_not_found,
    thumbnail_response,
    unavailable_response,
)
from thumbnails.storage.names import shard_for

PER_PAGE = 100


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    pages = Paginator(ImageAsset.objects.order_by("-pk"), PER_PAGE)
    page = pages.get_page(request.GET.get("page"))
    return render(request, "thumbnails/gallery.html", {"page": page})


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

"""The public's door: the gallery and the thumbnails themselves."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotFound
from django.shortcuts import render
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.http import http_date, quote_etag
from django.views.decorators.http import require_safe

from thumbnails.cache.layout import shard_for
from thumbnails.models import ImageAsset, State
from thumbnails.upkeep import freshness

PER_PAGE = 100
YEAR_SECONDS = 31_536_000
NOT_FOUND_SECONDS = 60
"""How long "there is none" may be remembered: a mended original should soon be seen."""


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    pages = Paginator(ImageAsset.objects.order_by("-pk"), PER_PAGE)
    page = pages.get_page(request.GET.get("page"))
    return render(request, "thumbnails/gallery.html", {"page": page})


@require_safe
def thumbnail(request: HttpRequest, asset_id: int, shard: str | None = None) -> HttpResponseBase:
    """The cached thumbnail, or one that is rendered now.

    404 for an unknown asset, a wrong shard, and an original that is gone or broken.
    """
    if shard is not None and shard != shard_for(asset_id):
        return _not_found()
    asset = ImageAsset.objects.filter(pk=asset_id).first()
    if asset is None:
        return _not_found()
    if asset.state == State.FRESH and (unchanged := _conditional(request, asset)):
        return unchanged  # the browser has these bytes: the cache need not be asked
    try:
        served = freshness.serve(asset)
    except freshness.NoThumbnail:
        return _not_found()
    response = HttpResponse(served.content, content_type="image/jpeg")
    response["Content-Length"] = str(len(served.content))
    if not served.stored:
        patch_cache_control(response, no_store=True)
        return response
    return _conditional(request, asset, response) or response


def _conditional(
    request: HttpRequest, asset: ImageAsset, response: HttpResponse | None = None
) -> HttpResponseBase | None:
    """The response, or 304 or 412 in its place, with what browsers need to keep it rightly."""
    etag = quote_etag(asset.fingerprint)
    made_at = asset.thumbnail_generated_at
    answer = get_conditional_response(
        request,
        etag=etag,
        last_modified=int(made_at.timestamp()) if made_at else None,
        response=response,
    )
    if answer is None:
        return None
    answer["ETag"] = etag
    if made_at:
        answer["Last-Modified"] = http_date(made_at.timestamp())
    if request.GET.get("v") == asset.fingerprint:
        # The URL names exactly these bytes, so it never changes what it means.
        patch_cache_control(answer, public=True, max_age=YEAR_SECONDS, immutable=True)
    else:
        # May be kept, but asked about each time: nobody sees yesterday's picture.
        patch_cache_control(answer, public=True, no_cache=True)
    return answer


def _not_found() -> HttpResponse:
    response = HttpResponseNotFound("There is no such thumbnail.\n", content_type="text/plain")
    patch_cache_control(response, public=True, max_age=NOT_FOUND_SECONDS)
    return response

"""An asset's thumbnail as an HTTP response, for the doors that hand it out."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.http import http_date, quote_etag

from thumbnails.models import ImageAsset, State
from thumbnails.upkeep import freshness

YEAR_SECONDS = 31_536_000
NOT_FOUND_SECONDS = 60
"""How long "there is none" may be remembered: a mended original should soon be seen."""


def thumbnail_response(request: HttpRequest, asset_id: int) -> HttpResponseBase | None:
    """The cached thumbnail, or one that is rendered now; 304 or 412 where the request says so.

    None for an unknown asset, and for an original that is gone or broken.
    """
    asset = ImageAsset.objects.filter(pk=asset_id).first()
    if asset is None:
        return None
    if asset.state == State.FRESH and (unchanged := _conditional(request, asset)):
        return unchanged  # the browser has these bytes: the cache need not be asked
    try:
        served = freshness.serve(asset)
    except freshness.NoThumbnail:
        return None
    response = HttpResponse(served.content, content_type="image/jpeg")
    response["Content-Length"] = str(len(served.content))
    if not served.stored:
        patch_cache_control(response, no_store=True)
        return response
    return _conditional(request, asset, response) or response


def remember_not_found(response: HttpResponseBase) -> None:
    """Let browsers and proxies keep a 404 for a while."""
    patch_cache_control(response, public=True, max_age=NOT_FOUND_SECONDS)


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

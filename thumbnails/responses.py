"""An asset's thumbnail as an HTTP response, for the entry points that serve it."""

import logging
import re
from functools import lru_cache
from http import HTTPStatus

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.http import http_date

from thumbnails.exceptions import Busy, NoThumbnail, StorageFailure
from thumbnails.models import ImageAsset
from thumbnails.rendering import MEDIA_TYPES, THUMBNAIL
from thumbnails.storage.thumbnails import ThumbnailFile
from thumbnails.upkeep.images import serving

logger = logging.getLogger(__name__)

YEAR_SECONDS = 31_536_000
NOT_FOUND_SECONDS = 60
"""How long a 404 may be cached: a repaired original should soon be seen."""
RETRY_SECONDS = 5
"""`Retry-After` of a thumbnail that cannot be rendered immediately or is being rendered."""
FINGERPRINT = re.compile("[0-9a-f]{16}")
OUR_QUERY = re.compile("v=([0-9a-f]{16})(&stale=1)?")
"""As `ImageAsset.thumbnail_url` writes it; parsing the query with Django costs as much as reading
the file."""
FOR_EVER = f"public, max-age={YEAR_SECONDS}, immutable"
NOT_MODIFIED_ALONE = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")
"""Conditions that are answered with 304; the first decides where both are there (RFC 9110,
13.1.3)."""
OTHER_CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE")
CONDITIONS = (*NOT_MODIFIED_ALONE, *OTHER_CONDITIONS)


class Unavailable(Exception):
    """The thumbnail is temporarily unavailable; the message says why in one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(RETRY_SECONDS)}


def thumbnail_response(
    request: HttpRequest, asset_id: int, suffix: str = THUMBNAIL
) -> HttpResponseBase | None:
    """Returns the thumbnail or its variant with that suffix: as it is, even stale, or rendered now
    if missing; 304 or 412 for a conditional request.

    Returns None for an unknown asset or variant and for a missing or broken original. Raises
    Unavailable if a storage, the database or the renderer is temporarily unavailable.
    """
    wanted, is_stale = _wanted(request)
    # An address that says stale is revalidated each time, so that the fresh one is soon seen.
    for_ever = None if is_stale else wanted
    if (
        for_ever
        and suffix == THUMBNAIL
        and _is_revalidation(request, for_ever)
        and serving.has_stamp(asset_id, for_ever)
    ):
        return _not_modified(for_ever, FOR_EVER)
    if wanted and (hit := serving.stamped(asset_id, wanted, suffix, is_stale=is_stale)):
        return _respond(request, hit, for_ever, suffix)
    try:
        asset = ImageAsset.objects.filter(pk=asset_id).first()
        if asset is None:
            return None
        is_variant = suffix != THUMBNAIL
        served = serving.serve_variant(asset, suffix) if is_variant else serving.serve(asset)
        return _respond(request, served, for_ever, suffix)
    except NoThumbnail:
        return None
    except (Busy, StorageFailure) as error:
        raise Unavailable(str(error)) from error
    except (OperationalError, InterfaceError) as error:
        details = (request.method, request.path, error)
        logger.error("The database did not answer %s %s: %s", *details)  # noqa: TRY400
        raise Unavailable("The database does not answer.") from error


def unavailable_response(error: Unavailable) -> HttpResponse:
    """503 as plain text, never cached."""
    answer = HttpResponse(
        f"{error}\n",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        content_type="text/plain",
        headers=error.headers,
    )
    patch_cache_control(answer, no_store=True)
    return answer


def remember_not_found(response: HttpResponseBase) -> None:
    """Let browsers and proxies cache a 404 for NOT_FOUND_SECONDS."""
    patch_cache_control(response, public=True, max_age=NOT_FOUND_SECONDS)


_http_date = lru_cache(maxsize=4096)(http_date)


def _wanted(request: HttpRequest) -> tuple[str | None, bool]:
    """The fingerprint in the request's `v` parameter, None without a valid one; and whether the
    address says that it is stale."""
    query = request.META.get("QUERY_STRING", "")
    if match := OUR_QUERY.fullmatch(query):
        return match[1], match[2] is not None
    if not query:
        return None, False
    value = request.GET.get("v", "")
    return value if FINGERPRINT.fullmatch(value) else None, "stale" in request.GET


def _respond(
    request: HttpRequest, served: ThumbnailFile, for_ever: str | None, suffix: str
) -> HttpResponseBase:
    """`for_ever`: the stamp under which the response may be cached without revalidation."""
    headers = {
        "Content-Type": MEDIA_TYPES[suffix.rpartition(".")[2]],
        "Content-Length": str(len(served.content)),
    }
    if not served.is_stored or served.stamp is None:
        return HttpResponse(served.content, headers=headers | {"Cache-Control": "no-store"})
    # A URL with the fingerprint always names these bytes. Any other has to be revalidated, so that
    # no client shows an outdated image.
    policy = FOR_EVER if for_ever == served.stamp else "public, no-cache"
    if _is_revalidation(request, served.stamp):
        return _not_modified(served.stamp, policy)
    etag, modified_at = f'"{served.stamp}"', int(served.modified_at)
    validators = {"ETag": etag, "Last-Modified": _http_date(modified_at), "Cache-Control": policy}
    response = HttpResponse(served.content, headers=headers | validators)
    if not any(name in request.META for name in CONDITIONS):
        return response
    answer = get_conditional_response(
        request, etag=etag, last_modified=modified_at, response=response
    )
    return response if answer is None else answer


def _is_revalidation(request: HttpRequest, stamp: str) -> bool:
    """Whether a browser asks, as they do, if what it has with that stamp is still valid.

    Any other condition is Django's to evaluate, which costs as much again as reading the file.
    """
    given = request.META
    return given.get("HTTP_IF_NONE_MATCH") == f'"{stamp}"' and not any(
        name in given for name in OTHER_CONDITIONS
    )


def _not_modified(stamp: str, policy: str) -> HttpResponse:
    # Without Last-Modified: the ETag says more (RFC 9110, 15.4.5).
    return HttpResponseNotModified(headers={"ETag": f'"{stamp}"', "Cache-Control": policy})

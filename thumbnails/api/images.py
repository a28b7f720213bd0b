"""Operations on images and on one thumbnail."""

from http import HTTPStatus
from typing import Annotated, cast

from django.db.models import prefetch_related_objects
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from ninja import Query, Router
from ninja.responses import Status

from thumbnails import conf
from thumbnails.api.auth import REGENERATE, VIEW_IMAGES, ApiRequest, staff_with
from thumbnails.api.errors import problem
from thumbnails.api.middleware import only_in_query
from thumbnails.api.openapi import answers
from thumbnails.api.schemas import (
    Cursor,
    Day,
    Generated,
    IdInPath,
    ImageOut,
    ImagePage,
    ImageState,
    NotGenerated,
    NumberInUrl,
    PageSize,
)
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Outcome
from thumbnails.responses import Unavailable, remember_not_found, thumbnail_response
from thumbnails.storage import thumbnails as cache
from thumbnails.throttling import Throttle
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.selection import conditions, pages
from thumbnails.upkeep.selection.conditions import Selection

router = Router(tags=["images"], by_alias=True)

RENDERS = Throttle(name="renders")


@router.get(
    "/images/{id}/thumbnail",
    url_name="image-thumbnail",
    auth=None,
    response=answers(also=(404, 412, 503)),
    openapi_extra={
        "responses": {
            200: {
                "description": "The thumbnail, even a stale one; a missing one is rendered now.",
                "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
            },
            304: {"description": "Not modified."},
            412: {"description": "The condition of If-Match or If-Unmodified-Since failed."},
        }
    },
)
def thumbnail(request: HttpRequest, image_id: IdInPath) -> HttpResponseBase:
    """The thumbnail itself, without authentication."""
    try:
        answer = thumbnail_response(request, image_id)
    except Unavailable as error:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=error.headers)
    if answer is None:
        answer = problem(HTTPStatus.NOT_FOUND, "There is no such thumbnail.")
        remember_not_found(answer)
    return answer


@router.post(
    "/images/{id}/thumbnail/generate",
    auth=staff_with(REGENERATE),
    response=answers({200: Generated, 500: NotGenerated}, also=(404, 429, 503)),
)
def generate(request: ApiRequest, image_id: IdInPath) -> Status[Generated | NotGenerated]:
    """Render the thumbnail now, even if it is fresh."""
    RENDERS.count(str(request.user.pk), at_most=conf.current().renders_per_minute)
    _image(image_id)
    result = serving.render_now(image_id)
    asset = _image(image_id)
    # Fresh is what another request has rendered since this one came.
    if result is None or result.outcome in (Outcome.RENDERED, Outcome.FRESH):
        return Status(
            HTTPStatus.OK,
            Generated(
                asset_id=asset.pk,
                thumbnail_path=cache.path_on_disk(asset.thumbnail_path) or asset.thumbnail_path,
                width=cast(int, asset.thumbnail_width),
                height=cast(int, asset.thumbnail_height),
            ),
        )
    if result.reason == Reason.SOURCE_MISSING:
        raise Http404(asset.thumbnail_error_detail)
    return Status(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        NotGenerated(
            asset_id=asset.pk,
            reason=Reason(asset.thumbnail_error),
            detail=asset.thumbnail_error_detail,
        ),
    )


@router.get(
    "/images/{id}",
    url_name="image",
    auth=staff_with(VIEW_IMAGES),
    response=answers({200: ImageOut}, also=(404,)),
)
def image(request: ApiRequest, image_id: IdInPath) -> ImageOut:
    """An image and the state of its thumbnail."""
    return ImageOut.of(_image(image_id))


@router.get(
    "/images", url_name="images", auth=staff_with(VIEW_IMAGES), response=answers({200: ImagePage})
)
def images(
    request: ApiRequest,
    state: Annotated[list[ImageState] | None, Query()] = None,
    session_id: Annotated[NumberInUrl | None, Query(alias="sessionId")] = None,
    from_date: Annotated[Day | None, Query(alias="fromDate")] = None,
    to_date: Annotated[Day | None, Query(alias="toDate")] = None,
    cursor: Cursor | None = None,
    limit: PageSize = 100,
) -> ImagePage:
    """The images, the newest first. `state` may be given more than once."""
    only_in_query(request, "state", "sessionId", "fromDate", "toDate", "cursor", "limit")
    selection = Selection(
        states=tuple(state) if state else None,
        from_date=from_date,
        to_date=to_date,
        **conditions.fields_of_session(session_id),
    )
    found = pages.page(
        selection, size=limit, before=pages.position_from(cursor) if cursor else None
    )
    prefetch_related_objects(found.images, "memberships")
    return ImagePage.model_construct(
        images=[ImageOut.of(asset) for asset in found.images],
        next_cursor=found.next_before.text if found.next_before else None,
    )


def _image(image_id: int) -> ImageAsset:
    asset = ImageAsset.objects.filter(pk=image_id).first()
    if asset is None:
        raise Http404(f"There is no image with the id {image_id}.")
    return asset

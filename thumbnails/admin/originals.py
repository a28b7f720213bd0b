"""Originals, which are never public, for staff who may replace them."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.cache import patch_cache_control

from thumbnails.exceptions import ThumbnailError
from thumbnails.models import ImageAsset
from thumbnails.storage import originals

SHOWN = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
"""Media types of what browsers show. They download the rest, some of which they could run: SVG."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Whatever the file is, a browser runs nothing in it, and no other site can use it."""


def original(
    model_admin: "admin.ModelAdmin[ImageAsset]", request: HttpRequest, asset_id: int
) -> HttpResponseBase:
    """The original's file as it is, to be shown or downloaded. Raises PermissionDenied."""
    # Who may only view images sees thumbnails.
    if not model_admin.has_change_permission(request):
        raise PermissionDenied
    asset = get_object_or_404(ImageAsset, pk=asset_id)
    try:
        with originals.read(str(asset.original.name)) as found:
            file = found.spool.detach()
    except ThumbnailError as error:
        model_admin.message_user(request, str(error), messages.ERROR)
        return redirect("admin:thumbnails_imageasset_change", asset.pk)
    answer = FileResponse(
        file,
        as_attachment=asset.format not in SHOWN,
        filename=asset.file_name,
        content_type=SHOWN.get(asset.format, "application/octet-stream"),
        headers=HEADERS,
    )
    patch_cache_control(answer, private=True, no_store=True)
    return answer

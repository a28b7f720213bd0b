"""Thumbnails as they are in the cache, for staff who want to see what is wrong with stale ones.

A request for a stale one's public URL would render it again.
"""

from contextlib import suppress

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import patch_cache_control

from thumbnails.exceptions import StorageFailure
from thumbnails.models import ImageAsset, State
from thumbnails.storage import thumbnails as cache


def cached_url(asset: ImageAsset) -> str | None:
    """Returns the URL of the asset's thumbnail as it is in the cache; None if there is none."""
    if asset.state == State.FRESH:
        return asset.thumbnail_url
    if asset.thumbnail_path and (asset.state == State.STALE or asset.state.is_failure):
        return reverse("admin:thumbnails_imageasset_as_it_is", args=[asset.pk])
    return None


def as_it_is(
    model_admin: "admin.ModelAdmin[ImageAsset]", request: HttpRequest, asset_id: int
) -> HttpResponse:
    """The file in the cache, even if it is stale."""
    if not model_admin.has_view_or_change_permission(request):
        raise PermissionDenied
    asset = ImageAsset.objects.filter(pk=asset_id).exclude(thumbnail_path="").first()
    content = None
    with suppress(StorageFailure):
        content = None if asset is None else cache.read(asset.thumbnail_path)
    if content is None:
        raise Http404("There is no such file in the cache.")
    response = HttpResponse(content, content_type="image/jpeg")
    patch_cache_control(response, private=True, no_store=True)
    return response

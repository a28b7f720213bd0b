"""Rendering what has just arrived, with THUMBNAIL_EAGER."""

from collections.abc import Iterable
from functools import partial

from django.db import router, transaction

from thumbnails import conf
from thumbnails.models import ImageAsset
from thumbnails.upkeep.images.background import refresh_soon


def render_soon(names: Iterable[str]) -> None:
    """Have the workers render the images of these originals after the commit, if THUMBNAIL_EAGER
    is on.

    For one image or a few. Returns at once. What is lost, as where the queue is down, stays
    missing: it is rendered on its next request, or by a run.
    """
    if conf.current().eager and (wanted := list(names)):
        database = router.db_for_write(ImageAsset)
        transaction.on_commit(partial(_request, wanted), using=database)


def ids_of(names: Iterable[str]) -> list[int]:
    """Returns the ids of the images of these originals."""
    found = ImageAsset.objects.filter(original__in=list(names))
    return list(found.values_list("pk", flat=True))


def _request(names: list[str]) -> None:
    for asset_id in ids_of(names):
        refresh_soon(asset_id)

"""When an asset goes, its thumbnail goes too."""

from contextlib import suppress
from functools import partial

from django.db import transaction

from thumbnails.cache import storage as cache
from thumbnails.cache.layout import name_for
from thumbnails.exceptions import StorageFailure
from thumbnails.models import ImageAsset


def asset_deleted(instance: ImageAsset, **_: object) -> None:
    """Delete the thumbnail once the deletion is certain (Django's `post_delete`).

    One that is rendered just now is deleted by its renderer, who finds no row to write into.
    """
    transaction.on_commit(partial(_delete_thumbnail, instance.pk))


def _delete_thumbnail(asset_id: int) -> None:
    with suppress(StorageFailure):  # an audit will find it
        cache.delete(name_for(asset_id))

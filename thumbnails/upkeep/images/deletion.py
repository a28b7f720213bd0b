"""When an asset goes, its thumbnail goes too."""

from functools import partial

from django.db import transaction

from thumbnails.models import ImageAsset
from thumbnails.upkeep.images.freshness import delete_orphan


def asset_deleted(instance: ImageAsset, **_: object) -> None:
    """Delete the thumbnail once the deletion is certain (Django's `post_delete`).

    One that is rendered just now is deleted by its renderer, which finds no row to write into.
    """
    transaction.on_commit(partial(delete_orphan, instance.pk))

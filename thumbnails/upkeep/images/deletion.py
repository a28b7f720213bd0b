"""Deleting an asset deletes its thumbnail."""

from functools import partial

from django.db import transaction

from thumbnails.models import ImageAsset
from thumbnails.upkeep.images.freshness import delete_orphan


def asset_deleted(instance: ImageAsset, **_: object) -> None:
    """Delete the thumbnail on commit: a receiver of `post_delete`.

    A thumbnail that is being rendered is deleted by its renderer, which finds no row to update.
    """
    transaction.on_commit(partial(delete_orphan, instance.pk))

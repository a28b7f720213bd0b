"""Deleting an asset deletes its thumbnail."""

from functools import partial

from django.db import transaction

from thumbnails.models import ImageAsset
from thumbnails.upkeep.images.freshness import delete_orphan


def asset_deleted(instance: ImageAsset, **_: object) -> None:
    """Delete the thumbnail on commit: a receiver of `post_delete`.

    A thumbnail that is being rendered is deleted by its renderer, which finds no row to update.
    """
    is_known = "thumbnail_variants" not in instance.get_deferred_fields()
    recorded = list(instance.thumbnail_variants) if is_known else []
    transaction.on_commit(partial(delete_orphan, instance.pk, recorded))

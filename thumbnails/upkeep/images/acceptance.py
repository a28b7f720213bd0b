"""Accepting that some originals cannot be rendered, so that runs skip them."""

from django.db import transaction
from django.db.models import F

from thumbnails.batching import batched
from thumbnails.models import ImageAsset, State
from thumbnails.models.assets import ImageAssetQuerySet

BATCH = 1000


def accept_failures(assets: ImageAssetQuerySet) -> list[int]:
    """Accept the failures of these assets, each until its original changes. Returns their ids.

    Those of a storage are not the original's fault, and stay failed.
    """
    return _set(assets.acceptable(), F("source_version"))


def undo_acceptance(assets: ImageAssetQuerySet) -> list[int]:
    """Let the accepted failures of these assets count as failed again. Returns their ids."""
    return _set(assets.in_state(State.ACCEPTED), None)


def _set(assets: ImageAssetQuerySet, accepted_source: F | None) -> list[int]:
    changed: list[int] = []
    for ids in batched(list(assets.values_list("pk", flat=True)), BATCH):
        with transaction.atomic():
            # In order of ids, as results are saved. What was read before this is void.
            now = assets.filter(pk__in=ids).select_for_update().order_by("pk")
            locked = list(now.values_list("pk", flat=True))
            ImageAsset.objects.filter(pk__in=locked).update(
                accepted_source=accepted_source, thumbnail_revision=F("thumbnail_revision") + 1
            )
        changed += locked
    return changed

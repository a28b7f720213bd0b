"""Deleting an asset deletes its thumbnail."""

from django.db import connections, transaction

from thumbnails.models import ImageAsset
from thumbnails.models.changes import Changed, tell_on_commit
from thumbnails.upkeep.images.freshness import delete_orphan


def asset_deleted(instance: ImageAsset, using: str, **_: object) -> None:
    """Delete the thumbnail on commit, and tell of it: a receiver of `post_delete`.

    A thumbnail that is being rendered is deleted by its renderer, which finds no row to update.
    """
    deleted = Changed.deleted(instance)
    deletion = _deletion_before(using)
    if deletion is not None:
        deletion.assets.append(deleted)
    else:
        transaction.on_commit(_Deletion(deleted), using=using)


class _Deletion:
    """What is left to do of assets that are deleted one after the other in a transaction."""

    def __init__(self, first: Changed) -> None:
        self.assets = [first]

    def __call__(self) -> None:
        for asset in self.assets:
            delete_orphan(asset.asset_id, asset.variants)
        tell_on_commit(self.assets)


def _deletion_before(using: str) -> _Deletion | None:
    """The callback that the transaction runs last, if it is one and stands or falls with what is
    deleted now: then many deleted assets are told of together."""
    connection = connections[using]
    if not connection.run_on_commit:
        return None
    savepoints, callback, *_ = connection.run_on_commit[-1]
    if isinstance(callback, _Deletion) and savepoints == set(connection.savepoint_ids):
        return callback
    return None

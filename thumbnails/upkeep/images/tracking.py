"""Tracked fields: images follow the rows of other models by signals, after each commit.

What is done without signals, as by `bulk_create` and `update`, `tracked_files.FieldSync` finds.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from thumbnails.batching import batched
from thumbnails.upkeep.images import tracked_fields
from thumbnails.upkeep.images.arrival import render_soon
from thumbnails.upkeep.images.tracked_fields import TrackedField
from thumbnails.upkeep.images.tracked_files import BATCH, delete, record, without_row

logger = logging.getLogger(__name__)


def track(model: str, field: str) -> None:
    """Let each file of this ImageField be an image: `track("catalog.Product", "photo")`.

    To be called in `AppConfig.ready`. What cannot be tracked is reported by the system checks.
    """
    if (found := tracked_fields.add(model, field)) is not None:
        _connect(found)


def untrack(model: str, field: str) -> None:
    """Undo `track`. The images stay."""
    if (found := tracked_fields.remove(f"{model}.{field}")) is not None:
        _disconnect(found)


@dataclass(slots=True)
class _Changes:
    """What was done to a field's rows in a transaction that may not be committed yet."""

    saved: set[Any] = field(default_factory=set)
    """Primary keys of rows."""
    left: set[str] = field(default_factory=set)
    """Files that a row had before."""


class _Pending(threading.local):
    """Changes by database and field, as Django's connections of this thread alone.

    Those of a transaction that was rolled back stay until the next commit, which does no harm:
    what is done with them depends on the rows as they are then.
    """

    def __init__(self) -> None:
        self.changes: dict[str, dict[TrackedField, _Changes]] = {}

    def of(self, found: TrackedField, using: str) -> _Changes:
        return self.changes.setdefault(using, {}).setdefault(found, _Changes())


_pending = _Pending()


def _connect(found: TrackedField) -> None:
    for signal, receiver in _RECEIVERS.items():
        for sender in _senders(found):
            signal.connect(
                partial(receiver, found),
                sender=sender,
                weak=False,
                dispatch_uid=f"thumbnails:{found.label}",
            )


def _disconnect(found: TrackedField) -> None:
    for signal in _RECEIVERS:
        for sender in _senders(found):
            signal.disconnect(sender=sender, dispatch_uid=f"thumbnails:{found.label}")


def _senders(found: TrackedField) -> list[type[models.Model]]:
    """The model, its proxies, and models that inherit from it by a table of their own."""
    return [model for model in apps.get_models() if issubclass(model, found.model)]


def _before_save(
    found: TrackedField, *, instance: models.Model, using: str, update_fields: Any, **_: Any
) -> None:
    pk = found.pk_of(instance)
    if pk is None or not _may_change(found, update_fields):
        return
    # As the database has it: the instance may have been loaded long ago, or not at all.
    files = found.files(using, pk=pk)
    _pending.of(found, using).left.update(file for _, file in files)


def _after_save(
    found: TrackedField, *, instance: models.Model, using: str, update_fields: Any, **_: Any
) -> None:
    if _may_change(found, update_fields):
        _pending.of(found, using).saved.add(found.pk_of(instance))
        _settle_after_commit(using)


def _before_deletion(found: TrackedField, *, instance: models.Model, using: str, **_: Any) -> None:
    # Not afterwards: a deferred field could no longer be loaded.
    _pending.of(found, using).left.update(filter(None, [found.file_of(instance)]))


def _after_deletion(_found: TrackedField, *, using: str, **_: Any) -> None:
    _settle_after_commit(using)


_RECEIVERS: dict[Any, Callable[..., None]] = {
    pre_save: _before_save,
    post_save: _after_save,
    pre_delete: _before_deletion,
    post_delete: _after_deletion,
}


def _may_change(found: TrackedField, update_fields: Any) -> bool:
    return update_fields is None or found.name in update_fields


def _settle_after_commit(using: str) -> None:
    try:
        transaction.on_commit(partial(_settle, using), using=using)
    except transaction.TransactionManagementError:
        # The project commits by itself, and signals no commit.
        logger.warning("Images do not follow rows without atomic(): run manage.py track_images.")


def _settle(using: str) -> None:
    """Bring the images in line with what was changed. The first of a commit does it for all."""
    for found, changes in _pending.changes.pop(using, {}).items():
        try:
            _follow(found, changes, using)
        except Exception:
            logger.exception(
                "Images of %s do not follow their rows; manage.py track_images mends it.",
                found.label,
            )


def _follow(found: TrackedField, changes: _Changes, using: str) -> None:
    present: set[str] = set()
    for pks in batched(changes.saved, BATCH):
        present |= {file for _, file in found.files(using, pk__in=pks)}
    for files in batched(present, BATCH):
        # What is not on disk is not read while a user waits for the answer to a request.
        results = record(found, files, reads_objects=False)
        render_soon(result.original for result in results if result.has_changed)
    for files in batched(changes.left - present, BATCH):
        delete(found, without_row(found, files, [using]))

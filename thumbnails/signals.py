"""Signals for other apps; docs/delivery.md shows how to receive them."""

from enum import StrEnum

from django.dispatch import Signal


class Change(StrEnum):
    """What became of the thumbnails of a batch."""

    RENDERED = "rendered"
    """There are new ones."""
    ADOPTED = "adopted"
    """There are some that another program made."""
    PURGED = "purged"
    """There are none."""
    DELETED = "deleted"
    """Their assets are deleted."""


thumbnails_changed = Signal()
"""Sent after the commit, in the thread that saved the change, by `ImageAsset` with the arguments

- `asset_ids`: up to 1,000, ascending;
- `urls`: the public addresses, without a host, that may lie in caches with other pictures: of each
  file without a query, and with the `?v=` of the thumbnails recorded before and now;
- `change`: a `Change`;
- `run`: the id of the run that changed them; None if none did.

An exception of a receiver is logged, and changes nothing else.
"""

"""Lists of images, a page at a time, however many there are."""

import heapq
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from thumbnails.models import ImageAsset
from thumbnails.models.assets import Part
from thumbnails.upkeep.selection import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page ended: its last image."""

    created_at: datetime
    asset_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some images, the newest first."""

    images: list[ImageAsset]
    next_before: Position | None
    """Where the next page begins; None where there is none."""


def page(selection: Selection, *, size: int, before: Position | None = None) -> Page:
    """The newest images of the selection, or those that come after that position.

    Costs about the same on any page, whatever is selected. Raises UsageError as the selection.
    """
    others = replace(selection, states=None).assets()
    states = selection.states
    parts = others.parts_in_state(*states) if states else [Part(others)]
    after = None if before is None else (before.created_at, before.asset_id)
    rows = heapq.merge(
        *(part.newest(before=after)[: size + 1] for part in parts),
        key=lambda asset: (asset.created_at, asset.pk),
        reverse=True,
    )
    found = list(islice(rows, size + 1))
    images = found[:size]
    is_last = len(found) <= size
    return Page(
        images=images,
        next_before=None
        if is_last
        else Position(created_at=images[-1].created_at, asset_id=images[-1].pk),
    )

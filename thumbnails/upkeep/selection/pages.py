"""Lists of images, a page at a time, however many there are."""

import heapq
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from thumbnails.models import ImageAsset
from thumbnails.models.assets import Part
from thumbnails.upkeep.selection.conditions import Selection


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
    after = None if before is None else (before.created_at, before.asset_id)
    rows = heapq.merge(
        *(part.newest(before=after)[: size + 1] for part in _parts(selection)),
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


def ids_between(selection: Selection, begin: int, end: int) -> list[int]:
    """The ids from the one place to before the other, of all that are meant, the newest first.

    For pages by number; costs more the further they are. Raises UsageError as the selection.
    """
    lists = [part.newest().values_list("created_at", "pk") for part in _parts(selection)]
    if len(lists) == 1:
        return [asset_id for _, asset_id in lists[0][begin:end]]
    rows = heapq.merge(*(each[:end] for each in lists), reverse=True)
    return [asset_id for _, asset_id in islice(rows, begin, end)]


def _parts(selection: Selection) -> list[Part]:
    """The selection in parts that an index gives in order."""
    if selection.states:
        return replace(selection, states=None).assets().ranges_in_state(*selection.states)
    if selection.recipes:
        others = replace(selection, recipes=None).assets().exclude(thumbnail_path="")
        return [Part(others, recipe=recipe) for recipe in selection.recipes]
    return [Part(selection.assets())]

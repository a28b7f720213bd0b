"""The size of what has no pixels of its own."""

from thumbnails.exceptions import Unreadable
from thumbnails.rendering.recipe import fit_inside

LARGEST_PX = 4096
"""Of the longer side, as it is recorded: the largest thumbnail that there may be."""


def drawn_size(width: float, height: float, size_px: int | None) -> tuple[int, int]:
    """Returns the size in pixels that fills a square of that side, by default of LARGEST_PX.

    Raises Unreadable if the drawing has no size.
    """
    longest = max(width, height)
    if not 0 < min(width, height) <= longest < float("inf"):
        raise Unreadable("The drawing has no size.")
    scale = LARGEST_PX / longest
    recorded = max(1, round(width * scale)), max(1, round(height * scale))
    return recorded if size_px is None else fit_inside(*recorded, size_px)

"""The workshop: bytes of an original in, bytes of a thumbnail out. Knows Pillow and no Django."""

from thumbnails.rendering.compare import Difference, compare
from thumbnails.rendering.inspection import FORMATS, Facts, inspect, is_whole
from thumbnails.rendering.recipe import Recipe, fingerprint_of, fit_inside
from thumbnails.rendering.render import Rendering, render
from thumbnails.rendering.stamp import read_stamp

__all__ = [
    "FORMATS",
    "Difference",
    "Facts",
    "Recipe",
    "Rendering",
    "compare",
    "fingerprint_of",
    "fit_inside",
    "inspect",
    "is_whole",
    "read_stamp",
    "render",
]

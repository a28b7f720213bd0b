"""Bytes of an original in, bytes of a thumbnail out. Uses Pillow, not Django."""

from thumbnails.rendering.compare import Difference, compare
from thumbnails.rendering.inspection import FORMATS, Facts, inspect, is_whole
from thumbnails.rendering.recipe import Recipe, fingerprint_of, fit_inside
from thumbnails.rendering.render import Rendering, render
from thumbnails.rendering.spool import Spool
from thumbnails.rendering.stamp import Stamped, look_at, read_stamp

__all__ = [
    "FORMATS",
    "Difference",
    "Facts",
    "Recipe",
    "Rendering",
    "Spool",
    "Stamped",
    "compare",
    "fingerprint_of",
    "fit_inside",
    "inspect",
    "is_whole",
    "look_at",
    "read_stamp",
    "render",
]

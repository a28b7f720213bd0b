"""The workshop: bytes of an original in, bytes of a thumbnail out. Knows Pillow and no Django."""

from thumbnails.rendering.inspection import Facts, inspect
from thumbnails.rendering.recipe import Recipe, fit_inside
from thumbnails.rendering.render import Rendering, render
from thumbnails.rendering.stamp import read_stamp

__all__ = ["Facts", "Recipe", "Rendering", "fit_inside", "inspect", "read_stamp", "render"]

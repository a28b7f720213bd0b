"""Decoders beside Pillow's own. Each is a module, imported when the first such file is met, with a
function `open_image` of the type `Opener`; most return a `DeferredImage`."""

from importlib import import_module
from typing import BinaryIO, Protocol, cast

from PIL import Image

MODULES = {
    "HEIC": "heic",
    "ICO": "ico",
    "JXL": "jxl",
    "PDF": "pdf",
    "RAW": "raw",
    "SVG": "svg",
}
"""By names of `thumbnails.rendering.formats`."""


class Opener(Protocol):
    def __call__(self, file: BinaryIO, size_px: int | None) -> Image.Image:
        """Returns the image, whose pixels are decoded by `load`.

        Its `format` is the format's name, its `size` is known at once where the library can tell
        it. A drawing is drawn to fit in a square of `size_px`, if that is given. Raises
        ThumbnailError, or anything else over a damaged file.
        """


def opener_of(name: str) -> Opener | None:
    """Returns what opens files of that format; None if Pillow itself does."""
    if name not in MODULES:
        return None
    return cast(Opener, import_module(f"{__name__}.{MODULES[name]}").open_image)

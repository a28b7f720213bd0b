"""Decoding what is there of a JPEG or PNG that breaks off, as browsers show it.

Pillow's own LOAD_TRUNCATED_IMAGES is for all formats of a process, and hides other damage, too.
"""

import io
import math
from functools import partial
from typing import Any, BinaryIO, cast

from PIL import Image

from thumbnails.exceptions import ThumbnailError, Unreadable

END_OF_IMAGE = b"\xff\xd9"
HUFFMAN_TABLES, START_OF_SCAN = b"\xff\xc4", b"\xff\xda"
"""Markers of the segments between the scans of a progressive JPEG (ITU-T T.81, B.1.1.3)."""
TABLES_BYTES = 2**12
"""The tables in front of a scan are shorter."""
BLANK = 0
"""A missing pixel: transparent, where a mode has alpha."""
WHITE: dict[str, Any] = {"1": 255, "L": 255, "RGB": (255, 255, 255), "I;16": 65535}
"""By Pillow's colour modes without alpha."""


def loaded_in_part(image: Image.Image) -> Image.Image:
    """Returns what is there of an opened JPEG or PNG, loaded; of an interlaced PNG with fewer
    pixels.

    What is missing is grey in a JPEG, and white or transparent in a PNG. Raises Unreadable if
    nothing is there, and for other formats.
    """
    if image.format in ("JPEG", "MPO"):
        file = cast(Any, image)  # Pillow's ImageFile, which has `fp` and `tile`
        file.fp = _Ended(file.fp)
        image.load()
    elif image.format == "PNG":
        image = _loaded_png(image)
    else:
        raise Unreadable(f"A part of a {image.format} cannot be shown.")
    if all(lowest == highest for lowest, highest in _extremes(image)):
        raise Unreadable("The picture breaks off before there is anything to see.")
    return image


class _Ended:
    """A JPEG's file that says at its end that the image ends, upon which the decoder shows what it
    has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell
        position, size_bytes = file.tell(), file.seek(0, io.SEEK_END)
        file.seek(max(0, size_bytes - TABLES_BYTES))
        self._end = size_bytes - _cut_tables_bytes(file.read())
        file.seek(position)

    def read(self, size: int) -> bytes:
        left = self._end - self.tell()
        return self._file.read(min(size, left)) if left > 0 else END_OF_IMAGE


def _cut_tables_bytes(tail: bytes) -> int:
    """Length of the segment that is cut at the file's end, or after which nothing comes: a decoder
    refuses half a table, and makes something up of a scan without data."""
    begin = len(tail)
    for marker in (HUFFMAN_TABLES, START_OF_SCAN):
        at = tail.rfind(marker)
        length = int.from_bytes(tail[at + 2 : at + 4])
        if at >= 0 and (at + 4 > len(tail) or at + 2 + length >= len(tail)):
            begin = min(begin, at)
    return len(tail) - begin


def _loaded_png(image: Image.Image) -> Image.Image:
    interlaced = bool(image.info.get("interlace"))
    blank = BLANK if interlaced else WHITE.get(image.mode, BLANK)
    image.im = Image.new(image.mode, image.size, blank).im  # what the decoder writes into
    try:
        image.load()
    except (ThumbnailError, MemoryError):
        raise
    except Exception as error:  # damage may raise anything, and the rows before it are fine
        if "out of memory" in str(error):
            raise
        cast(Any, image).tile = []  # it has been decoded as far as it can be
    if interlaced:
        return _last_whole_pass(image)
    return _with_white_end(image) if image.mode == "P" else image


def _with_white_end(image: Image.Image) -> Image.Image:
    """With what is missing transparent, for which a palette need not have a colour."""
    there = image.point([number != BLANK for number in range(256)], "L").getbbox()
    shown = image.convert("RGBA")
    shown.paste((0, 0, 0, 0), (0, there[3] if there else 0, *image.size))
    return shown


def _last_whole_pass(image: Image.Image) -> Image.Image:
    """Of an interlaced PNG every pixel, or every second, fourth or eighth, as far as all are there.

    Each of these grids ends with a pass that fills its odd rows from the top (PNG, 8.2).
    """
    return next(filter(_has_last_odd_row, map(partial(_grid, image), (1, 2, 4))), _grid(image, 8))


def _grid(image: Image.Image, step: int) -> Image.Image:
    """Every `step`-th pixel, from the first one on."""
    width, height = (math.ceil(side / step) for side in image.size)
    to_corner = (1 - step) / 2
    return image.transform(
        (width, height),
        Image.Transform.AFFINE,
        (step, 0, to_corner, 0, step, to_corner),
        Image.Resampling.NEAREST,
    )


def _has_last_odd_row(image: Image.Image) -> bool:
    last = max(0, image.height // 2 * 2 - 1)
    row = image.crop((0, last, image.width, last + 1))
    return any(highest != BLANK for _, highest in _extremes(row))


def _extremes(image: Image.Image) -> list[tuple[Any, Any]]:
    """The lowest and the highest value of each channel."""
    found = cast(tuple[Any, ...], image.getextrema())
    return list(found) if isinstance(found[0], tuple) else [found]

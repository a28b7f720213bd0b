"""Windows icons, by Pillow: the largest picture in them, with the most colours."""

import struct
from typing import BinaryIO

from PIL import Image
from PIL.IcoImagePlugin import IcoFile, IconHeader

from thumbnails.exceptions import TooLarge, Unreadable

SIDE_AT_MOST = 1024
"""In pixels. Windows takes 256."""
TOO_LARGE = f"The icon's picture has more than {SIDE_AT_MOST:,} pixels a side."


def open_image(file: BinaryIO, size_px: int | None = None) -> Image.Image:
    file.seek(0)
    icon = IcoFile(file)
    if not icon.entry:
        raise Unreadable("The icon has no picture.")
    if not _is_png(file, icon.entry[0]):
        _check_bitmap(file, icon.entry[0])
    image = icon.frame(0)  # decodes a bitmap, but only opens a PNG
    if max(image.size) > SIDE_AT_MOST:
        raise TooLarge(TOO_LARGE)
    image.format = "ICO"
    return image


def _is_png(file: BinaryIO, entry: IconHeader) -> bool:
    file.seek(entry.offset)
    return file.read(4) == b"\x89PNG"


def _check_bitmap(file: BinaryIO, entry: IconHeader) -> None:
    """Raises TooLarge. A bitmap's own header may say another size than the icon's directory."""
    file.seek(entry.offset)
    size, width, height = struct.unpack("<Iii", file.read(12))
    if size == 12:  # a bitmap of OS/2 has 16 bits for each
        width, height = width & 0xFFFF, width >> 16
    if abs(width) > SIDE_AT_MOST or abs(height) > 2 * SIDE_AT_MOST:
        raise TooLarge(TOO_LARGE)

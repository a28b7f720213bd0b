"""JPEG XL, by libjxl (pylibjxl): the first frame."""

from typing import BinaryIO

import pylibjxl
from PIL import Image

from thumbnails.rendering.decoders.deferred import UPRIGHT, DeferredImage

CODESTREAM = b"\xff\x0a"
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""By number of channels."""


def open_image(file: BinaryIO, size_px: int | None = None) -> Image.Image:
    return JxlImage(file)


class JxlImage(DeferredImage):
    """libjxl applies the orientation of the codestream; that of EXIF means nothing (ISO/IEC
    18181-2)."""

    format = "JXL"

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101  for the type checker
        self._content = self.fp.read()
        header = pylibjxl.probe(self._content)
        self._size = header["width"], header["height"]
        self._mode = MODES[header["channels"]]
        self.info = {"bit_depth": header["bits_per_sample"]}
        self.set_orientation(codestream_orientation(self._content))

    def decoded(self) -> Image.Image:
        pixels, metadata = self._codec().decode(self._content, metadata=True)
        if profile := metadata.get("icc_profile"):
            self.info["icc_profile"] = profile
        return Image.fromarray(pixels)

    def _codec(self) -> pylibjxl.JXL:
        return pylibjxl.JXL(threads=1)  # there is a render process a core


def codestream_orientation(content: bytes) -> int:
    """Returns the orientation of the image's header (ISO/IEC 18181-1, Annex D), as EXIF's."""
    bits = _Bits(_codestream(content)[2:34])
    _skip_size(bits)
    all_default = bits.take(1)
    if all_default or not bits.take(1):  # extra fields
        return UPRIGHT
    return 1 + bits.take(3)


def _codestream(content: bytes) -> bytes:
    """The codestream, or its first part."""
    if content.startswith(CODESTREAM):
        return content
    at = 0
    while at + 8 <= len(content):
        size, begin = int.from_bytes(content[at : at + 4]), at + 8
        if size == 1:
            size, begin = int.from_bytes(content[at + 8 : at + 16]), at + 16
        kind = content[at + 4 : at + 8]
        if kind in (b"jxlc", b"jxlp"):
            return content[begin + (4 if kind == b"jxlp" else 0) :]
        if size < 8:
            break
        at += size
    raise ValueError("no codestream")


def _skip_size(bits: "_Bits") -> None:
    is_small = bits.take(1)
    _skip_side(bits, is_small=is_small)
    ratio = bits.take(3)
    if not ratio:
        _skip_side(bits, is_small=is_small)


def _skip_side(bits: "_Bits", *, is_small: int) -> None:
    bits.take(5 if is_small else (9, 13, 18, 30)[bits.take(2)])


class _Bits:
    """Reads numbers, lowest bits first."""

    def __init__(self, content: bytes) -> None:
        self._rest = int.from_bytes(content, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value

"""JPEG XL, by libjxl (pylibjxl): the first frame."""

from dataclasses import dataclass
from typing import BinaryIO

import pylibjxl
from PIL import Image

from thumbnails.exceptions import Unsupported
from thumbnails.rendering.decoders.boxes import boxes
from thumbnails.rendering.decoders.deferred import DeferredImage
from thumbnails.rendering.inspection import UPRIGHT

CODESTREAM = b"\xff\x0a"
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""By number of channels."""
PREMULTIPLIED = {"LA": "La", "RGBA": "RGBa"}
HEADER_BYTES = 4096
"""An image's header is in so many bytes of its codestream, but for channels with long names."""
ALPHA, SPOT, BLACK, FILTER = 0, 2, 4, 5
"""Kinds of extra channels."""


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
        self._header = read_image_header(self._content)
        if self._header.has_black:
            raise Unsupported("Pictures of JPEG XL in CMYK cannot be shown.")
        self.set_orientation(self._header.orientation)

    def decoded(self) -> Image.Image:
        pixels, metadata = self._codec().decode(self._content, metadata=True)
        image: Image.Image = Image.fromarray(pixels)
        if self._header.is_premultiplied and image.mode in PREMULTIPLIED:
            as_stored = Image.frombytes(PREMULTIPLIED[image.mode], image.size, image.tobytes())
            image = as_stored.convert(image.mode)
        if self._header.is_linear:
            return with_curve(image)
        if profile := metadata.get("icc_profile"):
            self.info["icc_profile"] = profile
        return image

    def _codec(self) -> pylibjxl.JXL:
        return pylibjxl.JXL(threads=1)  # there is a render process a core


def with_curve(image: Image.Image) -> Image.Image:
    """Returns linear sRGB as sRGB (IEC 61966-2-1)."""
    shares = [value / 255 for value in range(256)]
    curve = [12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055 for x in shares]
    table = [round(255 * value) for value in curve]
    bands = image.getbands()
    return image.point([x for band in bands for x in (range(256) if band == "A" else table)])


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of a codestream says of its pixels (ISO/IEC 18181-1, Annex D)."""

    orientation: int = UPRIGHT
    """As EXIF's."""
    is_premultiplied: bool = False
    """The colours are multiplied by the alpha channel."""
    has_black: bool = False
    """It is in CMYK: libjxl decodes the black apart from the colours, and pylibjxl not at all."""
    is_linear: bool = False
    """libjxl decodes the colours to linear sRGB, since they are stored in a colour space of its own
    (XYB), and named only by an ICC profile, which it would need a further library for."""


def read_image_header(content: bytes) -> ImageHeader:
    bits = _Bits(_codestream(content)[2 : 2 + HEADER_BYTES])
    _skip_size(bits)
    if bits.take(1):  # all is as by default
        return ImageHeader()
    orientation = _skip_extra_fields(bits) if bits.take(1) else UPRIGHT
    _skip_bit_depth(bits)
    bits.take(1)  # whether 16 bits suffice for the modular decoder
    kinds = [_channel(bits) for _ in range(bits.number((0, 0), (1, 0), (2, 4), (1, 12)))]
    is_xyb, is_default_space = bits.take(1), bits.take(1)
    return ImageHeader(
        orientation=orientation,
        is_premultiplied=(ALPHA, True) in kinds,
        has_black=(BLACK, False) in kinds,
        is_linear=bool(is_xyb and not is_default_space and bits.take(1)),
    )


def _skip_extra_fields(bits: "_Bits") -> int:
    """Returns the orientation."""
    orientation = 1 + bits.take(3)
    if bits.take(1):
        _skip_size(bits)  # the intrinsic one
    if bits.take(1):
        _skip_preview(bits)
    if bits.take(1):  # an animation's ticks, loops and time codes
        bits.number((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.number((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.number((0, 0), (0, 3), (0, 16), (0, 32))
        bits.take(1)
    return orientation


def _skip_preview(bits: "_Bits") -> None:
    in_eighths = [(16, 0), (32, 0), (1, 5), (33, 9)]
    side = in_eighths if bits.take(1) else [(1, 6), (65, 8), (321, 10), (1345, 12)]
    bits.number(*side)
    if not bits.take(3):
        bits.number(*side)


def _skip_bit_depth(bits: "_Bits") -> None:
    if bits.take(1):  # floating point
        bits.number((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.number((8, 0), (10, 0), (12, 0), (1, 6))


def _channel(bits: "_Bits") -> tuple[int, bool]:
    """The kind of an extra channel, and whether the colours are multiplied by it."""
    if bits.take(1):
        return ALPHA, False
    kind = bits.number((0, 0), (1, 0), (2, 4), (18, 6))
    _skip_bit_depth(bits)
    bits.number((0, 0), (3, 0), (4, 0), (1, 3))  # how much smaller it is
    bits.take(8 * bits.number((0, 0), (0, 4), (16, 5), (48, 10)))  # its name
    if kind == SPOT:
        bits.take(4 * 16)
    if kind == FILTER:
        bits.number((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, kind == ALPHA and bool(bits.take(1))


def _codestream(content: bytes) -> bytes:
    """The codestream, or its first part."""
    if content.startswith(CODESTREAM):
        return content
    for kind, (begin, _) in boxes(content, 0, len(content)):
        if kind in (b"jxlc", b"jxlp"):
            return content[begin + (4 if kind == b"jxlp" else 0) :]
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

    def number(self, *kinds: tuple[int, int]) -> int:
        """One of four kinds of number (U32), each a least value and how many bits to add to it."""
        least, count = kinds[self.take(2)]
        return least + self.take(count)

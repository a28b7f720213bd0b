"""What the header of an original says of it besides its size: who made it, and how it is stored.

Metadata is a stranger's text and may be damaged: what cannot be read is left out, and the picture
is fine without it.
"""

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageCms

FACTS_VERSION = 1
"""Grows when more is read: images that an older version has described are described again."""
FACT_LENGTH = 80
"""Longest text of a fact."""
NO_TEXT = "none"
"""What selects pictures that do not say it; never a text of its own."""
UNNAMED_PROFILE = "unnamed"
"""The name of a colour profile that has none, or is damaged."""
GIF_BYTES = 2**22
"""Frames of a GIF are counted as far as this: only reading the whole file would tell all."""
PAGES_AT_MOST = 1_000
"""Pages of a TIFF are counted up to this."""
HEADER_BYTES = 2**14
"""The properties of an AVIF lie within this."""
WEBP_CHUNKS = 16
"""The pixels of a WebP come after at most so many chunks of other things."""
PALETTE_MODES = ("P", "PA")
COUNTED = ("PNG", "WEBP", "AVIF", "HEIC")
"""Formats whose header has the number of frames."""


class Compression(StrEnum):
    """How an original's pixels are compressed."""

    BASELINE = "baseline"
    PROGRESSIVE = "progressive"
    LOSSY = "lossy"
    LOSSLESS = "lossless"
    NONE = "none"
    RLE = "rle"
    LZW = "lzw"
    DEFLATE = "deflate"
    PACKBITS = "packbits"
    JPEG = "jpeg"
    CCITT = "ccitt"
    OTHER = "other"


class Note(StrEnum):
    """What is noted of a picture that is shown in part."""

    TRUNCATED = "truncated"


OF_FORMAT = {
    "PNG": Compression.LOSSLESS,
    "GIF": Compression.LOSSLESS,
    "AVIF": Compression.LOSSY,
    "HEIC": Compression.LOSSY,
}
OF_BMP = {0: Compression.NONE, 1: Compression.RLE, 2: Compression.RLE, 3: Compression.NONE}
"""By the header's number; 3 is none, with masks for the colours."""
OF_TIFF = {
    "raw": Compression.NONE,
    "tiff_lzw": Compression.LZW,
    "tiff_adobe_deflate": Compression.DEFLATE,
    "tiff_deflate": Compression.DEFLATE,
    "packbits": Compression.PACKBITS,
    "jpeg": Compression.JPEG,
    "tiff_jpeg": Compression.JPEG,
    "tiff_ccitt": Compression.CCITT,
    "group3": Compression.CCITT,
    "group4": Compression.CCITT,
}
"""By Pillow's names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an original's header says."""

    width: int
    """In pixels as stored, before the orientation is applied; so is `height`."""
    height: int
    format: str
    """A name of `thumbnails.rendering.formats`."""
    mode: str
    """Pillow's name of the colour mode, such as RGB, CMYK or P."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""
    camera: str = ""
    """Make and model by EXIF. As all texts at most FACT_LENGTH characters of one printable line."""
    software: str = ""
    """What wrote the file last, by its own word."""
    bit_depth: int = 8
    """Bits a channel; of a palette those of its colours."""
    has_alpha: bool = False
    """Whether pixels may be transparent."""
    color_profile: str = ""
    """The description of its ICC profile; UNNAMED_PROFILE if that has none, empty without one."""
    compression: str = ""
    """A Compression; empty if it is unknown."""
    frames: int = 1
    """Frames or pages, as far as they are counted; the first is shown."""
    note: str = ""
    """A Note, which decoding tells; empty of a picture that is shown as a whole."""
    facts_version: int = FACTS_VERSION
    """The version of this reading; 0 is what was imported before there was one."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the facts by name; `dataclasses.asdict` takes twenty times as long."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_header(image: Image.Image, file: BinaryIO) -> dict[str, Any]:
    """Returns the facts that go by their defaults in Facts, by name.

    `image` is Pillow's of `file`, not loaded. Raises OSError.
    """
    kind = str(image.format)
    maker, model, software = (
        _tag(image, tag)
        for tag in (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software)
    )
    return {
        "camera": _camera(maker, model),
        "software": software or _text_of(image.info.get("Software")),  # a PNG's own text
        "bit_depth": _bit_depth(image, kind, file),
        "has_alpha": image.has_transparency_data,
        "color_profile": _profile_name(image.info.get("icc_profile")),
        "compression": _compression(image, kind, file),
        "frames": _frames(image, kind, file),
    }


def clean_text(value: object) -> str:
    """Returns a text as facts have it: one line of printable characters, at most FACT_LENGTH;
    empty for anything else. Of its own result it is the same."""
    if not isinstance(value, str):
        return ""
    text = value[: 8 * FACT_LENGTH].partition("\0")[0]
    if not text.isprintable():
        text = "".join(one for one in text if one.isprintable() or one.isspace())
    found = " ".join(text.split())[:FACT_LENGTH].rstrip()
    return "" if found.casefold() == NO_TEXT else found


def _text_of(value: object) -> str:
    """Of metadata, which is ASCII by its standards, and UTF-8 or Latin-1 by what writes it."""
    if not isinstance(value, bytes | str):
        return ""
    raw = value[: 8 * FACT_LENGTH]
    try:
        return clean_text((raw.encode("latin-1") if isinstance(raw, str) else raw).decode())
    except UnicodeError:
        return clean_text(raw.decode("latin-1") if isinstance(raw, bytes) else raw)


def _tag(image: Image.Image, tag: int) -> str:
    try:
        # The base class's method uses what the header contains, and keeps what it has read.
        return _text_of(Image.Image.getexif(image).get(tag))
    except OSError:
        raise
    except Exception:  # noqa: BLE001  damaged EXIF may raise anything
        return ""


def _camera(maker: str, model: str) -> str:
    """'Apple iPhone 12', and 'NIKON D70' of 'NIKON CORPORATION'."""
    first_word = maker.partition(" ")[0].casefold()
    if not model or not maker or model.casefold().startswith(first_word):
        return model or maker
    return f"{maker} {model}"[:FACT_LENGTH].rstrip()


def _profile_name(profile: object) -> str:
    if not isinstance(profile, bytes) or not profile:
        return ""
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description
    except (ImageCms.PyCMSError, OSError, ValueError):
        found = None
    return clean_text(found) or UNNAMED_PROFILE


# --- how it is stored -----------------------------------------------------------------------------


def _bit_depth(image: Image.Image, kind: str, file: BinaryIO) -> int:
    if image.mode in PALETTE_MODES:
        return 8
    if kind == "AVIF":
        return _depth_of_avif(file)
    known = image.info.get("bit_depth", getattr(image, "bits", None))  # of an HEIC, of a JPEG
    if kind == "TIFF":
        known = _first(getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample))
    if isinstance(known, int) and 1 <= known <= 64:
        return known
    return _depth_of_pixels(image)


def _first(value: object) -> object:
    return value[0] if isinstance(value, tuple) and value else value


def _depth_of_pixels(image: Image.Image) -> int:
    """By Pillow's name for how pixels lie in the file, such as RGB;16B, L;4 or BGR;15."""
    tiles = getattr(image, "tile", [])
    raw = str(_first(tiles[0].args)) if tiles else ""
    if re.fullmatch("BGRA?;1[56]Z?", raw):  # of all channels
        return 5
    if (match := re.search(";([0-9]+)", raw) or re.search(";([0-9]+)", image.mode)) is not None:
        return int(match[1])
    return {"1": 1, "I": 32, "F": 32}.get(image.mode, 8)


def _depth_of_avif(file: BinaryIO) -> int:
    """By the flags of its codec's configuration (AV1 in ISOBMFF, 2.3.3)."""
    file.seek(0)
    head = file.read(HEADER_BYTES)
    at = head.find(b"av1C")
    flags = head[at + 6] if 0 <= at < len(head) - 6 else 0
    if not flags & 0x40:
        return 8
    return 12 if flags & 0x20 else 10


def _compression(image: Image.Image, kind: str, file: BinaryIO) -> str:
    if kind in ("JPEG", "MPO"):
        found = Compression.PROGRESSIVE if "progressive" in image.info else Compression.BASELINE
        return found.value
    if kind == "WEBP":
        return _compression_of_webp(file)
    if kind == "TIFF":
        return OF_TIFF.get(str(image.info.get("compression")), Compression.OTHER).value
    if kind == "BMP":
        known = image.info.get("compression")
        return OF_BMP.get(known if isinstance(known, int) else 0, Compression.OTHER).value
    return OF_FORMAT[kind].value if kind in OF_FORMAT else ""


def _compression_of_webp(file: BinaryIO) -> str:
    """By the kind of the first chunk that has pixels (RFC 9649)."""
    at = 12
    for _ in range(WEBP_CHUNKS):
        file.seek(at)
        kind, size = _unpacked("<4sI", file)
        if kind in (b"VP8 ", b"VP8L"):
            return (Compression.LOSSLESS if kind == b"VP8L" else Compression.LOSSY).value
        # The pixels of an animation lie inside of its frames.
        at += 24 if kind == b"ANMF" else 8 + size + size % 2
    return ""


def _unpacked(layout: str, file: BinaryIO) -> tuple[Any, ...]:
    """The next values of the file; zeros where it ends."""
    size = struct.calcsize(layout)
    return struct.unpack(layout, file.read(size).ljust(size, b"\0"))


# --- frames ---------------------------------------------------------------------------------------


def _frames(image: Image.Image, kind: str, file: BinaryIO) -> int:
    if (count := COUNTERS.get(kind)) is not None:
        return max(1, count(file))
    return max(1, int(getattr(image, "n_frames", 1))) if kind in COUNTED else 1


def _frames_of_gif(file: BinaryIO) -> int:
    """Pillow reads each block of pixels to count, at forty times the cost."""
    file.seek(0)
    data = file.read(GIF_BYTES) + bytes(16)  # a terminator where it breaks off
    at = 13 + _size_of_palette(data[10])
    frames = 0
    while at < len(data) - 16 and data[at] in b",!":
        if data[at] == ord(","):
            frames += 1
            at += 11 + _size_of_palette(data[at + 9])
        else:
            at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return frames


def _size_of_palette(flags: int) -> int:
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _pages_of_tiff(file: BinaryIO) -> int:
    """The length of the chain of its directories, none of which is read."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    prefix = "<" if file.read(2) == b"II" else ">"
    version, at = _unpacked(f"{prefix}HI", file)
    number, entry_bytes, link = "H", 12, "I"
    if version == 43:  # BigTIFF
        number, entry_bytes, link = "Q", 20, "Q"
        file.seek(8)
        (at,) = _unpacked(f"{prefix}Q", file)
    met: set[int] = set()
    while 0 < at < end and at not in met and len(met) < PAGES_AT_MOST:
        met.add(at)
        file.seek(at)
        (entries,) = _unpacked(prefix + number, file)
        behind = at + struct.calcsize(prefix + number) + entries * entry_bytes
        if behind >= end:
            break
        file.seek(behind)
        (at,) = _unpacked(prefix + link, file)
    return len(met)


COUNTERS: dict[str, Callable[[BinaryIO], int]] = {"GIF": _frames_of_gif, "TIFF": _pages_of_tiff}
"""Of formats where counting means going through the file."""

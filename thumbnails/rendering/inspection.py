"""Reading an original's header, without decoding its pixels."""

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from thumbnails.exceptions import StorageFailure, ThumbnailError, TooLarge, Unreadable, Unsupported
from thumbnails.rendering import decoders
from thumbnails.rendering.facts import Facts, read_header
from thumbnails.rendering.formats import DEFAULT_FORMATS, FORMATS, listed
from thumbnails.rendering.signatures import Kind, kind_of

Size = tuple[int, int]
"""In pixels."""

UPRIGHT = 1
TURNED = range(5, 9)
"""Orientations that rotate the stored pixels by 90 degrees."""
HEADER_BYTES, HEADER_READS, EXIF_SEGMENTS = 32 * 2**20, 10_000, 16
"""Limits of what Pillow reads ahead of the pixels. It takes time by the square of the number of a
GIF's blocks and of a JPEG's EXIF segments, of which there should be one. A panorama's JPEG may have
several MiB there; a profile in a GIF takes some thousand reads."""
JPEG_SCANS = 100
"""Limit of a JPEG's scans, libtiff's for the JPEGs in a TIFF. Encoders write about ten. Each takes
the time of all pixels, and some ten bytes."""
JPEG_REDUCTION = 8
"""How many times smaller a JPEG's decoder makes it at most."""
PIXEL_BYTES, COEFFICIENT_BYTES = 4, 2
"""Of memory: of Pillow's RGB, and of libjpeg."""
RLE_PIXELS = 4_000_000
"""Limit of run-length encoded BMPs, which Pillow decodes in Python, at 60 to 100 ns a pixel."""
TURNED_ON_LOADING = ("TIFF", "HEIC", "JXL")
"""Formats whose decoders turn the pixels upright, and say so in the size from the start."""
OWN_FORMATS = ("JPEG", "WEBP", "AVIF")
"""Of thumbnails and variants."""


def inspect(
    file: BinaryIO, *, max_pixels: int, formats: tuple[str, ...] = DEFAULT_FORMATS
) -> Facts:
    """Read the header of an original.

    Raises Unsupported for anything but an image in one of `formats`, TooLarge for more than
    `max_pixels`, Unreadable for a damaged header.
    """
    with translated_errors(file) as watched:
        image = open_image(watched, max_pixels=max_pixels, formats=formats, reducible=True)
        if image.format == "PNG" and "exif" not in image.info:
            _find_exif_behind(image, watched)
        # The base class's method; PNG's own would decode the whole image to find EXIF behind it.
        orientation = orientation_of(image, partial(Image.Image.getexif, image))
        width, height = image.size
        if image.format in TURNED_ON_LOADING and orientation in TURNED:
            width, height = height, width
        return Facts(
            width=width,
            height=height,
            # A JPEG with further images behind the first, such as a phone's depth map.
            format="JPEG" if image.format == "MPO" else str(image.format),
            mode=image.mode,
            orientation=orientation,
            **read_header(image, cast(BinaryIO, watched)),
        )


def _find_exif_behind(image: Image.Image, file: "WatchedFile") -> None:
    """Take the EXIF chunk of a PNG that is behind its pixels, where ExifTool may put it."""
    position = 8
    for _ in range(HEADER_READS):
        file.seek(position)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if kind == b"eXIf" and length <= HEADER_BYTES:
            image.info["exif"] = b"Exif\0\0" + file.read(length)
        if kind in (b"eXIf", b"IEND", b""):
            return
        position += length + 12


def is_whole(file: BinaryIO, *, max_pixels: int) -> bool:
    """Whether the thumbnail or variant can be decoded completely."""
    try:
        with translated_errors(file) as watched:
            open_image(watched, max_pixels=max_pixels, formats=OWN_FORMATS).load()
    except ThumbnailError:
        return False
    return True


def open_image(
    file: "WatchedFile",
    *,
    max_pixels: int,
    formats: tuple[str, ...] = DEFAULT_FORMATS,
    size_px: int | None = None,
    reducible: bool = False,
) -> Image.Image:
    """Returns Pillow's image with its header read. To be called inside `translated_errors`.

    A drawing, which has no pixels of its own, fills a square of `size_px`, if that is given.
    A JPEG is too large only if it is so at its smallest, where it is `reducible`: then the caller
    has to `check_reduced` once it is known how it will be decoded.
    """
    # Before its decoder reserves the memory.
    _check_pixels(*_webp_size(file), max_pixels)
    with file.header():
        image = _opened(file, kind_of(file), formats, size_px)
    if image.format in FORMATS and FORMATS[image.format].is_drawing:
        return image
    if reducible and isinstance(image, JpegImageFile) and image.format != "RAW":
        width, height = (math.ceil(side / JPEG_REDUCTION) for side in image.size)
        check_reduced(image, file, image.size, (width, height), max_pixels=max_pixels)
    else:
        _check_pixels(*image.size, max_pixels)
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", [])):
        _check_pixels(*image.size, RLE_PIXELS, " in a run-length encoded BMP")
    if image.mode == "P" and image.palette is None:
        raise Unreadable("It has no palette.")
    _pass_over_xmp(image)  # before Pillow turns a TIFF
    return image


def _opened(
    file: "WatchedFile", kind: Kind, formats: tuple[str, ...], size_px: int | None
) -> Image.Image:
    """Opened by the decoder of its own format alone. Raises Unsupported, Unreadable."""
    # A TGA need not have a signature.
    name = kind.format if kind.label else "TGA"
    if name not in formats:
        raise Unsupported(_refusal(kind, formats))
    try:
        if (opened_by := decoders.opener_of(name)) is not None:
            return opened_by(cast(BinaryIO, file), size_px)
        return Image.open(cast(BinaryIO, file), formats=[name])
    except (UnidentifiedImageError, SyntaxError):
        if not kind.label:
            raise Unsupported(_refusal(kind, formats)) from None
        raise Unreadable(
            f"This is {kind.label} that cannot be read: it is damaged, or of an unusual kind."
        ) from None


def _refusal(kind: Kind, formats: tuple[str, ...]) -> str:
    if not kind.label:
        return f"Not a picture in one of {', '.join(formats)}."
    return f"This is {kind.label}, which this site does not take: it takes {listed(formats)}."


def check_reduced(
    image: Image.Image,
    file: "WatchedFile",
    full_size: Size,
    decoded_size: Size,
    *,
    max_pixels: int,
) -> None:
    """Raises TooLarge for a JPEG that has more than so many pixels, and whose decoding at that size
    holds more in memory.

    If it may have several scans, these are also the coefficients of the full size, of 2 bytes each.
    """
    if not isinstance(image, JpegImageFile) or math.prod(full_size) <= max_pixels:
        return
    held = math.prod(decoded_size)
    if _may_have_several_scans(image, file):
        shares = [across * down for _, across, down, _ in image.layer]
        most = max(across for _, across, _, _ in image.layer) * max(
            down for _, _, down, _ in image.layer
        )
        held += math.prod(full_size) * sum(shares) * COEFFICIENT_BYTES // (most * PIXEL_BYTES)
    if held > max_pixels:
        raise TooLarge(
            f"{full_size[0]} × {full_size[1]} pixels, of which decoding holds as many as "
            f"{held:,} at once, are more than the {max_pixels:,} allowed."
        )


def _may_have_several_scans(image: JpegImageFile, file: "WatchedFile") -> bool:
    # The last that Pillow reads of a header is that of the first scan: how many components it has.
    return file.last_read[:1] != bytes([image.layers]) or "progressive" in image.info


def check_scans(image: Image.Image, file: "WatchedFile") -> None:
    """Raises TooLarge for a JPEG of more than JPEG_SCANS. `image` was opened from `file`.

    Reads the whole file where there may be several scans.
    """
    if not isinstance(image, JpegImageFile) or image.format == "RAW":  # looked at on opening
        return
    if not _may_have_several_scans(image, file):
        return
    file.seek(0)
    # In the data of a scan a byte of 0xff is followed by another one.
    if len(re.findall(b"\xff\xda", file.read())) > JPEG_SCANS:
        raise TooLarge(f"It has more than {JPEG_SCANS} scans.")


def prepare(file: BinaryIO, formats: tuple[str, ...]) -> int:
    """Import the decoder of the file's format: what that takes is not the file's fault.

    Returns the address space that the decoder may take when it is opened, besides a header's.
    WebP's reserves two canvases of four bytes a pixel, which take no memory until it decodes. Other
    libraries than Pillow read the file as a whole, and some of them keep a copy. Raises
    StorageFailure.
    """
    with translated_errors(file) as watched:
        width, height = _webp_size(watched)
        name = kind_of(watched).format
        size = watched.seek(0, os.SEEK_END)
        watched.seek(0)
    opener = decoders.opener_of(name) if name in formats else None
    return 8 * width * height + (0 if opener is None else 2 * size)


def _check_pixels(width: int, height: int, allowed: int, where: str = "") -> None:
    if width * height > allowed:
        raise TooLarge(f"{width} × {height} pixels are more than the {allowed:,} allowed{where}.")


def _webp_size(file: "WatchedFile") -> tuple[int, int]:
    """The canvas in pixels (RFC 9649, 2.5 to 2.7); 0 × 0 for other formats."""
    start = file.read(30)
    file.seek(0)
    if len(start) < 30 or (start[:4], start[8:12]) != (b"RIFF", b"WEBP"):
        return 0, 0
    number = partial(int.from_bytes, byteorder="little")
    if start[12:16] == b"VP8X":
        return number(start[24:27]) + 1, number(start[27:30]) + 1
    if start[12:16] == b"VP8L":
        bits = number(start[21:25])
        return bits % 2**14 + 1, (bits >> 14) % 2**14 + 1
    return number(start[26:28]) % 2**14, number(start[28:30]) % 2**14


def orientation_of(image: Image.Image, read_exif: Callable[[], Image.Exif]) -> int:
    """Returns the EXIF orientation; 1 if there is none, it is invalid, or EXIF is damaged.

    `read_exif` reads that of the image.
    """
    _pass_over_xmp(image)  # of a PNG it may stand behind the pixels
    try:
        value = read_exif().get(ExifTags.Base.Orientation)
    except OSError:
        raise
    except Exception:  # noqa: BLE001  damaged EXIF may raise anything, and the pixels are fine
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def _pass_over_xmp(image: Image.Image) -> None:
    """Pillow would take the orientation from XMP if there is none in EXIF; others do not."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)


class WatchedFile:
    """A file for Pillow that records a failed read.

    Some of Pillow's decoders turn that into a warning and continue. It has no `fileno`, which
    libtiff would use to bypass `read`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self.failure: OSError | None = None
        self.last_read = b""
        """Of the header."""
        self._is_header = False
        self._bytes = self._reads = self._exif_segments = 0

    def read(self, size: int = -1) -> bytes:
        try:
            content = self._file.read(size)
        except OSError as error:
            self.failure = error
            raise
        if self._is_header and size >= 0:  # others read the whole file once, and then no more
            self._count(content)
        return content

    @contextmanager
    def header(self) -> Iterator[None]:
        """Inside, `read` raises TooLarge for more than a header may have."""
        self._is_header = True
        yield
        self._is_header = False

    def _count(self, content: bytes) -> None:
        self.last_read = content
        self._bytes += len(content)
        self._reads += 1
        self._exif_segments += content.startswith(b"Exif\0\0")
        if self._bytes > HEADER_BYTES:
            raise TooLarge(f"Its header has more than {HEADER_BYTES // 2**20} MiB.")
        if self._reads > HEADER_READS:
            raise TooLarge(f"Its header has more than {HEADER_READS:,} parts.")
        if self._exif_segments > EXIF_SEGMENTS:
            raise TooLarge(f"Its header has more than {EXIF_SEGMENTS} segments of EXIF.")


@contextmanager
def translated_errors(file: BinaryIO) -> Iterator[WatchedFile]:
    """Yields the file to read, and raises Pillow's errors as ThumbnailErrors."""
    watched = WatchedFile(file)
    try:
        yield watched
    except (ThumbnailError, MemoryError):
        raise  # a lack of memory concerns the process, not the image
    except OSError as error:
        if "out of memory" in str(error):  # from some of Pillow's decoders
            raise MemoryError from error
        raise Unreadable(_sentence(error)) from error
    except Exception as error:  # decoders may raise anything over a damaged file
        raise Unreadable(_sentence(error)) from error
    finally:
        if watched.failure is not None:
            raise StorageFailure(
                f"Reading it failed: {watched.failure.strerror}."
            ) from watched.failure


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]

"""What an original's header tells, without decoding its pixels."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

from PIL import ExifTags, Image, UnidentifiedImageError

from thumbnails.exceptions import StorageFailure, ThumbnailError, TooLarge, Unreadable, Unsupported

# Damaged metadata is common and no reason not to show a picture: what matters raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# Our own limit comes with a reason.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# An explicit list: Pillow knows formats that run other programs (EPS) or that nobody keeps
# photos in, and each decoder is one more thing that a hostile file can reach.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP")
UPRIGHT = 1
TURNED = range(5, 9)
"""Orientations whose stored pixels lie on their side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """An original as its header describes it."""

    width: int
    """Pixels as stored, before the orientation is applied; so is `height`."""
    height: int
    format: str
    """One of FORMATS."""
    mode: str
    """Pillow's name of the colour mode, such as RGB, CMYK or P."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""


def inspect(file: BinaryIO, *, max_pixels: int) -> Facts:
    """Read the header of an original.

    Raises Unsupported for what is no picture of FORMATS, TooLarge for more than `max_pixels`,
    Unreadable for a damaged header.
    """
    with translated_errors(file) as watched:
        image = open_image(watched, max_pixels=max_pixels)
        # The base class's method reads what the header brought; PNG's own would decode the
        # picture to look behind it.
        orientation = orientation_of(partial(Image.Image.getexif, image))
        width, height = image.size
        if image.format == "TIFF" and orientation in TURNED:
            width, height = height, width  # Pillow tells a TIFF's size upright
        return Facts(
            width=width,
            height=height,
            # A phone's JPEG with a depth map or a second picture behind the first.
            format="JPEG" if image.format == "MPO" else str(image.format),
            mode=image.mode,
            orientation=orientation,
        )


def is_whole(file: BinaryIO, *, max_pixels: int) -> bool:
    """Whether the picture can be decoded to its end."""
    try:
        with translated_errors(file) as watched:
            open_image(watched, max_pixels=max_pixels).load()
    except ThumbnailError:
        return False
    return True


def open_image(file: "WatchedFile", *, max_pixels: int) -> Image.Image:
    """Pillow's image, its header read. To be called inside `translated_errors`."""
    image = Image.open(cast(BinaryIO, file), formats=FORMATS)
    if image.width * image.height > max_pixels:
        raise TooLarge(
            f"{image.width} × {image.height} pixels are more than the {max_pixels:,} allowed."
        )
    return image


def orientation_of(read_exif: Callable[[], Image.Exif]) -> int:
    """The EXIF orientation; 1 where there is none, or it means nothing, or EXIF is damaged."""
    try:
        value = read_exif().get(ExifTags.Base.Orientation)
    except OSError:
        raise
    except Exception:  # noqa: BLE001  damaged EXIF raises anything and harms no pixel
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


class WatchedFile:
    """The file as Pillow sees it, which remembers that reading it failed.

    Some of Pillow's decoders make a warning of that and go on. It has no `fileno`, past which
    libtiff would read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self.failure: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def translated_errors(file: BinaryIO) -> Iterator[WatchedFile]:
    """The file to be read inside; whatever Pillow raises over it becomes one of our errors."""
    watched = WatchedFile(file)
    try:
        with _errors_of_pillow():
            yield watched
    finally:
        if watched.failure is not None:
            raise StorageFailure(
                f"Reading it failed: {watched.failure.strerror}."
            ) from watched.failure


@contextmanager
def _errors_of_pillow() -> Iterator[None]:
    try:
        yield
    except ThumbnailError:
        raise
    except UnidentifiedImageError:
        raise Unsupported("Not a picture in one of " + ", ".join(FORMATS) + ".") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(str(error)) from error
    except MemoryError:
        raise  # says more of the process than of the picture
    except OSError as error:
        if "out of memory" in str(error):  # some decoders of Pillow's say it so
            raise MemoryError from error
        raise Unreadable(_sentence(error)) from error
    except Exception as error:  # a decoder that stumbles over a damaged file raises anything
        raise Unreadable(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]

"""Reading an original's header, without decoding its pixels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from PIL import ExifTags, Image, UnidentifiedImageError

from thumbnails.exceptions import StorageFailure, ThumbnailError, TooLarge, Unreadable, Unsupported
from thumbnails.rendering.facts import Facts, read_header

# An explicit list: some of Pillow's formats run other programs (EPS), others hold no photos, and
# every decoder adds to what a hostile file can attack.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP")
UPRIGHT = 1
TURNED = range(5, 9)
"""Orientations that rotate the stored pixels by 90 degrees."""


def inspect(file: BinaryIO, *, max_pixels: int) -> Facts:
    """Read the header of an original.

    Raises Unsupported for anything but an image in one of FORMATS, TooLarge for more than
    `max_pixels`, Unreadable for a damaged header.
    """
    with translated_errors(file) as watched:
        image = open_image(watched, max_pixels=max_pixels)
        # The base class's method uses what the header contains; PNG's own would decode the whole
        # image to find EXIF behind it.
        orientation = orientation_of(partial(Image.Image.getexif, image))
        width, height = image.size
        if image.format == "TIFF" and orientation in TURNED:
            width, height = height, width  # Pillow returns a TIFF's size upright
        return Facts(
            width=width,
            height=height,
            # A JPEG with further images behind the first, such as a phone's depth map.
            format="JPEG" if image.format == "MPO" else str(image.format),
            mode=image.mode,
            orientation=orientation,
            **read_header(image, cast(BinaryIO, watched)),
        )


def is_whole(file: BinaryIO, *, max_pixels: int) -> bool:
    """Whether the image can be decoded completely."""
    try:
        with translated_errors(file) as watched:
            open_image(watched, max_pixels=max_pixels).load()
    except ThumbnailError:
        return False
    return True


def open_image(file: "WatchedFile", *, max_pixels: int) -> Image.Image:
    """Returns Pillow's image with its header read. To be called inside `translated_errors`."""
    image = Image.open(cast(BinaryIO, file), formats=FORMATS)
    if image.width * image.height > max_pixels:
        raise TooLarge(
            f"{image.width} × {image.height} pixels are more than the {max_pixels:,} allowed."
        )
    return image


def orientation_of(read_exif: Callable[[], Image.Exif]) -> int:
    """Returns the EXIF orientation; 1 if there is none, it is invalid, or EXIF is damaged."""
    try:
        value = read_exif().get(ExifTags.Base.Orientation)
    except OSError:
        raise
    except Exception:  # noqa: BLE001  damaged EXIF may raise anything, and the pixels are fine
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


class WatchedFile:
    """A file for Pillow that records a failed read.

    Some of Pillow's decoders turn that into a warning and continue. It has no `fileno`, which
    libtiff would use to bypass `read`.
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
    """Yields the file to read, and raises Pillow's errors as ThumbnailErrors."""
    watched = WatchedFile(file)
    try:
        yield watched
    except (ThumbnailError, MemoryError):
        raise  # a lack of memory concerns the process, not the image
    except UnidentifiedImageError:
        raise Unsupported("Not a picture in one of " + ", ".join(FORMATS) + ".") from None
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

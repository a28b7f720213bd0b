"""The tests' pictures are what they say; else other tests would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from tests import pictures


@pytest.mark.parametrize("orientation", pictures.ORIENTATIONS)
@pytest.mark.parametrize(
    "build", [pictures.jpeg, pictures.png, pictures.webp, pictures.tiff, pictures.mpo]
)
def test_orientation__lays_the_picture_and_says_so(
    build: Callable[..., bytes], orientation: int
) -> None:
    data = build(orientation=orientation)
    plain = Image.open(BytesIO(data))
    assert plain.getexif()[0x0112] == orientation
    assert pictures.corners(ImageOps.exif_transpose(pictures.opened(data))) == pictures.UPRIGHT
    if build is not pictures.tiff:  # Pillow sets that one upright while it loads
        assert (pictures.corners(plain) == pictures.UPRIGHT) == (orientation == 1)


@pytest.mark.parametrize(
    ("data", "format_", "mode"),
    [
        (pictures.jpeg(mode="L"), "JPEG", "L"),
        (pictures.jpeg(mode="CMYK"), "JPEG", "CMYK"),
        (pictures.png(mode="1"), "PNG", "1"),
        (pictures.png(mode="P"), "PNG", "P"),
        (pictures.png(mode="I;16"), "PNG", "I;16"),
        (pictures.transparent_png("RGBA"), "PNG", "RGBA"),
        (pictures.transparent_png("LA"), "PNG", "LA"),
        (pictures.transparent_png("P"), "PNG", "P"),
        (pictures.gif(), "GIF", "P"),
        (pictures.webp(pictures.half_transparent(), mode="RGBA"), "WEBP", "RGBA"),
        (pictures.avif(), "AVIF", "RGB"),
        (pictures.tiff(mode="CMYK"), "TIFF", "CMYK"),
        (pictures.bmp(), "BMP", "RGB"),
        (pictures.mpo(), "MPO", "RGB"),
    ],
)
def test_builder__makes_the_format_and_mode(data: bytes, format_: str, mode: str) -> None:
    image = pictures.opened(data)
    assert (image.format, image.mode) == (format_, mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparent_png__hides_its_left_half(mode: str) -> None:
    image = pictures.opened(pictures.transparent_png(mode)).convert("RGBA")
    alpha = [image.getpixel((x, 10)) for x in (5, image.width - 5)]
    assert [pixel[3] for pixel in alpha if isinstance(pixel, tuple)] == [0, 255]


def test_gif__has_its_frames() -> None:
    assert getattr(pictures.opened(pictures.gif(frames=3)), "n_frames", None) == 3


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (pictures.EMPTY, UnidentifiedImageError),
        (pictures.TEXT, UnidentifiedImageError),
        (pictures.truncated(), OSError),
        (pictures.truncated(pictures.png(pictures.scene(200, 200))), OSError),
        (pictures.bomb(), Image.DecompressionBombError),
    ],
)
def test_bad_one__is_refused_by_pillow(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        pictures.opened(data)


def test_truncated__has_a_whole_header() -> None:
    assert Image.open(BytesIO(pictures.truncated())).size == (640, 480)

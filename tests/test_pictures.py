"""The tests' pictures are what they claim to be; else other tests would prove nothing."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image, ImageOps

from tests import pictures


@pytest.mark.parametrize("orientation", pictures.ORIENTATIONS)
def test_orientation__turns_the_picture_and_records_it(orientation: int) -> None:
    plain = pictures.opened(pictures.jpeg(orientation=orientation))
    assert plain.getexif()[0x0112] == orientation
    assert pictures.corners(ImageOps.exif_transpose(plain)) == pictures.UPRIGHT
    assert (pictures.corners(plain) == pictures.UPRIGHT) == (orientation == 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparent_png__hides_its_left_half(mode: str) -> None:
    image = pictures.opened(pictures.transparent_png(mode)).convert("RGBA")
    alpha = [image.getpixel((x, 10)) for x in (5, image.width - 5)]
    assert [pixel[3] for pixel in alpha if isinstance(pixel, tuple)] == [0, 255]


def test_gif__has_its_frames() -> None:
    assert getattr(pictures.opened(pictures.gif(frames=3)), "n_frames", None) == 3


def test_truncated__has_a_whole_header() -> None:
    assert Image.open(BytesIO(pictures.truncated())).size == (640, 480)
    with pytest.raises(OSError, match="truncated"):
        pictures.opened(pictures.truncated())

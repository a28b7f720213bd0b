"""Pixels beside those of libvips and of exact computation, before the JPEG encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont, TiffImagePlugin

from tests import pictures
from tests.libvips import Pixels, References
from thumbnails.rendering import Recipe, fit_inside
from thumbnails.rendering.inspection import inspect, translated_errors
from thumbnails.rendering.render import small_images

SIZE_PX = 64
MAX_PIXELS = 50_000_000


@pytest.fixture(scope="module")
def libvips() -> Iterator[References]:
    with References() as references:
        yield references


def shown(data: bytes, recipe: Recipe | None = None) -> Pixels:
    """The RGB values of the thumbnail before it is encoded."""
    recipe = recipe or Recipe(size_px=SIZE_PX)
    with translated_errors(BytesIO(data)) as watched:
        images = small_images(watched, recipe, max_pixels=MAX_PIXELS)
    return np.asarray(images[recipe.size_px].convert("RGB"), np.float64)


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio in dB."""
    assert one.shape == other.shape
    return 10 * math.log10(255**2 / max(1e-9, float(np.mean((one - other) ** 2))))


# --- Hard patterns --------------------------------------------------------------------------------


def text(width: int) -> Image.Image:
    """Lines of letters whose strokes are finer than a pixel of the thumbnail."""
    image = Image.new("RGB", (width, width * 3 // 4), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(9, width // 40))
    for number, y in enumerate(range(0, image.height, max(11, width // 32))):
        line = f"{number} Il1 The quick brown fox MWm jumps over the lazy dog |||" * 3
        draw.text((2, y), line, fill="black", font=font)
    return image


def line_screen(width: int) -> Image.Image:
    """Upright black and white lines, a little finer than the thumbnail's pixels."""
    waves = np.sin(2 * np.pi * np.arange(width) / width * SIZE_PX / 0.93)
    return grey_picture(np.tile(np.sign(waves), (width * 3 // 4, 1)))


def zone_plate(width: int) -> Image.Image:
    """Rings that get finer towards the edges: up to the finest that there are."""
    y, x = np.mgrid[0 : width * 3 // 4, 0:width].astype(float)
    square = (x - width / 2) ** 2 + (y - width * 3 / 8) ** 2
    return grey_picture(np.cos(np.pi * square / width))


def grey_picture(values: npt.NDArray[np.float64]) -> Image.Image:
    """Of values from -1, black, to 1, white."""
    return Image.fromarray((127.5 + 127.5 * values).astype(np.uint8)).convert("RGB")


RATIOS = [3.05, 4.1, 6.1, 8.1, 12.2, 16.4, 19.2]
"""Of a picture to its thumbnail: just above where one more halving would do with a smaller gap."""
AS_GOOD_AS_EXACT_DB = 41
"""From there on the error is 2 of 255 levels: a difference to libvips' says nothing."""


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("pattern", [text, line_screen, zone_plate])
def test_hard_pattern__is_as_true_as_libvips_shows_it(
    pattern: Callable[[int], Image.Image], format_: str, libvips: References
) -> None:
    for ratio in RATIOS:
        image = pattern(round(SIZE_PX * ratio / 4) * 4)
        data = pictures.saved(image, format_, quality=95, subsampling=0, compress_level=1)
        exact = exact_thumbnail(pictures.opened(data))
        theirs = psnr(libvips.thumbnail(data, SIZE_PX), exact)
        assert psnr(shown(data), exact) >= min(theirs - 1, AS_GOOD_AS_EXACT_DB), ratio


def exact_thumbnail(image: Image.Image) -> Pixels:
    """LANCZOS over all pixels, in floating point."""
    size = fit_inside(*image.size, SIZE_PX)
    bands = [
        Image.fromarray(np.asarray(band, np.float32)).resize(size, Image.Resampling.LANCZOS)
        for band in image.split()
    ]
    return np.stack([np.asarray(band, np.float64) for band in bands], axis=-1).clip(0, 255)


# --- Orientation ----------------------------------------------------------------------------------


XMP_ON_ITS_SIDE = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def with_xmp(format_: str) -> bytes:
    image = pictures.scene(SIZE_PX, 48)
    if format_.startswith("PNG"):
        chunk = pictures.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_ON_ITS_SIDE)
        data = pictures.saved(image, "PNG")
        place = data.index(b"IEND" if format_ == "PNG-behind" else b"IDAT") - 4
        return data[:place] + chunk + data[place:]
    if format_ == "TIFF":
        return pictures.saved(image, "TIFF", tiffinfo={TiffImagePlugin.XMP: XMP_ON_ITS_SIDE})
    return pictures.saved(image, format_, xmp=XMP_ON_ITS_SIDE, quality=95)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "PNG-behind", "WEBP", "AVIF", "TIFF"])
def test_orientation__that_stands_only_in_xmp_is_passed_over(
    format_: str, libvips: References
) -> None:
    data = with_xmp(format_)
    facts = inspect(BytesIO(data), max_pixels=MAX_PIXELS)
    assert (facts.width, facts.height, facts.orientation) == (64, 48, 1)
    # But for the edges of the scene's quarters, where decoders smooth colours differently.
    assert np.median(np.abs(shown(data) - libvips.thumbnail(data, SIZE_PX))) <= 3

"""Pixels beside those of libvips and of exact computation, before the JPEG encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont, TiffImagePlugin

from tests import pictures, profiles
from tests.libvips import Pixels, References
from thumbnails.exceptions import StorageFailure, Unsupported
from thumbnails.rendering import Recipe, fit_inside
from thumbnails.rendering.inspection import inspect, translated_errors
from thumbnails.rendering.pixels import take_more_tiffs
from thumbnails.rendering.render import small_images

SIZE_PX = 64
MAX_PIXELS = 50_000_000


@pytest.fixture(scope="module")
def libvips() -> Iterator[References]:
    with References() as references:
        yield references


def shown(data: bytes, cmyk_profile: bytes = b"") -> Pixels:
    """The RGB values of the thumbnail before it is encoded."""
    with translated_errors(BytesIO(data)) as watched:
        images = small_images(
            watched, Recipe(size_px=SIZE_PX), max_pixels=MAX_PIXELS, cmyk_profile=cmyk_profile
        )
    return np.asarray(images[SIZE_PX].convert("RGB"), np.float64)


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


# --- Kinds of pixels ------------------------------------------------------------------------------

RAMP = np.tile(np.linspace(0, 1, SIZE_PX), (SIZE_PX, 1))
COLOURS = np.stack([RAMP, RAMP[:, ::-1], 0.8 * RAMP.T], axis=-1)
"""Red grows to the right, green to the left, blue to the bottom."""


def assert_as_libvips(data: bytes, libvips: References, *, within: float) -> None:
    """All values differ by at most so much, of 255."""
    assert np.abs(shown(data) - libvips.thumbnail(data, SIZE_PX)).max() <= within


def sixteen_bit(values: npt.NDArray[np.float64], order: str) -> bytes:
    return (values * 65_535).round().astype(f"{order}u2").tobytes()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflated"])
def test_tiff__of_16_bit_grey_whose_zero_is_white(compressed: bool, libvips: References) -> None:
    strips = [sixteen_bit(RAMP, "<")]
    data = pictures.tiff_of(strips, bits=[16], photometric=0, compressed=compressed)
    assert_as_libvips(data, libvips, within=1)
    assert shown(data)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff__of_16_bit_colour_in_planes(
    order: str, compressed: bool, libvips: References
) -> None:
    strips = [sixteen_bit(COLOURS[:, :, band], order) for band in range(3)]
    data = pictures.tiff_of(
        strips, bits=[16] * 3, photometric=2, planes=True, order=order, compressed=compressed
    )
    assert_as_libvips(data, libvips, within=1)


@pytest.mark.parametrize(
    ("kind", "photometric"),
    [("u1", 0), ("u1", 1), ("<u2", 0), ("<u2", 1), (">u2", 1), (">f4", 0), ("<f4", 1)],
)
def test_tiff__of_grey_in_one_plane(kind: str, photometric: int) -> None:
    white = {"u1": 255, "u2": 65_535, "f4": 1}[kind.strip("<>")]
    data = pictures.tiff_of(
        [(RAMP * white).astype(kind).tobytes()],
        bits=[8 * np.dtype(kind).itemsize],
        photometric=photometric,
        sample_format=3 if kind.endswith("f4") else 1,
        planes=True,
        order=kind[0] if kind[0] in "<>" else "<",
    )
    expected = RAMP if photometric else 1 - RAMP
    assert np.abs(shown(data)[:, :, 0] - expected * 255).max() <= 1.5


def test_tiff__of_12_bit_grey() -> None:
    pairs = (RAMP * 4095).round().astype(int).reshape(-1, 2)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=-1
    )
    data = pictures.tiff_of([packed.astype(np.uint8).tobytes()], bits=[12], photometric=1)
    assert np.abs(shown(data)[:, :, 0] - RAMP * 255).max() <= 1


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 255), (-3, 7e9), (1000, 1001)], ids=lambda value: f"{value:g}"
)
@pytest.mark.parametrize("photometric", [0, 1], ids=["white-is-zero", "black-is-zero"])
def test_tiff__of_floating_point_is_shown_in_its_range(
    photometric: int, low: float, high: float
) -> None:
    numbers = (low + RAMP * (high - low)).astype("<f4").tobytes()
    data = pictures.tiff_of([numbers], bits=[32], photometric=photometric, sample_format=3)
    expected = RAMP if photometric else 1 - RAMP
    assert np.abs(shown(data)[:, :, 0] - expected * 255).max() <= 1


def test_tiff__of_floating_point_from_0_to_1_keeps_its_brightness() -> None:
    numbers = (0.25 + RAMP / 2).astype("<f4").tobytes()
    data = pictures.tiff_of([numbers], bits=[32], photometric=1, sample_format=3)
    assert np.abs(shown(data)[:, :, 0] - (0.25 + RAMP / 2) * 255).max() <= 1


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_tiff__of_floating_point_with_holes_is_shown_in_the_range_of_the_rest(hole: float) -> None:
    numbers = (RAMP * 300).astype("<f4")
    numbers[:4] = hole
    data = pictures.tiff_of([numbers.tobytes()], bits=[32], photometric=1, sample_format=3)
    assert np.abs(shown(data)[4:, :, 0] - RAMP[4:] * 255).max() <= 1
    numbers[:] = hole
    data = pictures.tiff_of([numbers.tobytes()], bits=[32], photometric=1, sample_format=3)
    assert np.ptp(shown(data)) == 0


def test_tiff__of_32_bit_grey_is_shown_in_its_range() -> None:
    numbers = (RAMP * 2_000_000_000).astype("<i4").tobytes()
    data = pictures.tiff_of([numbers], bits=[32], photometric=1, sample_format=2)
    assert np.abs(shown(data)[:, :, 0] - RAMP * 255).max() <= 1


@pytest.mark.parametrize(
    ("kind", "sample_format", "compressed"),
    [(">f4", 3, True), (">i4", 2, True), (">i2", 2, True), ("<u4", 1, False), ("<u4", 1, True)],
)
def test_tiff__of_numbers_in_either_byte_order_and_without_a_sign(
    kind: str, sample_format: int, compressed: bool
) -> None:
    numbers = RAMP * {"f4": 2**31, "i4": 2**31 - 1, "i2": 2**15 - 1, "u4": 2**32 - 1}[kind[1:]]
    data = pictures.tiff_of(
        [numbers.astype(kind).tobytes()],
        bits=[8 * int(kind[2])],
        photometric=1,
        sample_format=sample_format,
        order=kind[0],
        compressed=compressed,
    )
    low, high = numbers.min(), max(numbers.max(), 65_535)
    assert np.abs(shown(data)[:, :, 0] - (numbers - low) / (high - low) * 255).max() <= 1


def test_tiff__of_cmyk_in_planes_of_16_bits_is_refused() -> None:
    data = pictures.tiff_of([bytes(64 * 64 * 2)] * 4, bits=[16] * 4, photometric=5, planes=True)
    with pytest.raises(Unsupported, match="planes"):
        shown(data)


@pytest.mark.parametrize(
    ("kind", "compressed"), [("u1", False), ("<u2", False), (">u2", False), (">u2", True)]
)
def test_tiff__of_lab(kind: str, compressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the definition of CIE L*a*b* under D50, since libvips reads no such TIFF."""
    lab = np.stack([50 + 30 * RAMP, 40 * RAMP - 20, 40 * RAMP.T - 20], axis=-1)
    monkeypatch.setattr(TiffImagePlugin, "OPEN_INFO", dict(TiffImagePlugin.OPEN_INFO))
    take_more_tiffs()
    scale = (2.55, 1, 1) if kind == "u1" else (655.35, 256, 256)
    stored = (lab * scale).round().astype(np.int64).astype(kind)
    data = pictures.tiff_of(
        [stored.tobytes()],
        bits=[8 * stored.itemsize] * 3,
        photometric=8,
        order="<" if kind == "<u2" else ">",
        compressed=compressed,
    )
    f_y = (lab[:, :, 0] + 16) / 116
    f = np.stack([f_y + lab[:, :, 1] / 500, f_y, f_y - lab[:, :, 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1, 0.8249)
    light = (xyz @ np.linalg.inv(np.array(profiles.SRGB))).clip(0, 1)
    srgb = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    # Of 16 bits the high byte is taken.
    assert np.abs(shown(data) - srgb * 255).max() <= (3 if kind == "u1" else 6)


def test_png__of_16_bit_colour_of_which_one_is_transparent(libvips: References) -> None:
    key = [12_345, 54_321, 777]
    pixels = np.full((SIZE_PX, SIZE_PX, 3), key)
    pixels[:, 20:, 2] += 1  # another colour, and the same in 8 bits
    pixels[:, 40:, 0] = 50_000
    data = pictures.png_16_bit(pixels, key)
    assert_as_libvips(data, libvips, within=1)
    assert shown(data)[0, [10, 30]].tolist() == [[255, 255, 255], [48, 212, 3]]


# --- CMYK -----------------------------------------------------------------------------------------


def cmyk_picture() -> Image.Image:
    ramp, columns = (255 * RAMP).astype(np.uint8), (255 * RAMP.T).astype(np.uint8)
    return Image.fromarray(np.stack([ramp, columns, ramp // 2, columns // 3], axis=-1), "CMYK")


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_cmyk__without_a_profile_is_that_of_the_site(
    format_: str, libvips: References, tmp_path: Path
) -> None:
    press = tmp_path / "press.icc"
    press.write_bytes(profiles.red_cyan())
    data = pictures.saved(cmyk_picture(), format_, quality=95)
    pixels = shown(data, cmyk_profile=press.read_bytes())
    theirs = libvips.thumbnail(data, SIZE_PX, import_profile=str(press), intent="perceptual")
    assert np.abs(pixels - theirs).max() <= 2
    naive = np.asarray(pictures.opened(data).convert("RGB"), np.float64)
    assert np.array_equal(shown(data), naive)


def test_cmyk__with_a_profile_keeps_its_own() -> None:
    another = profiles.red_cyan(ink_lab=(30.0, 0.0, 0.0))
    data = pictures.saved(cmyk_picture(), "TIFF", icc_profile=profiles.red_cyan())
    assert np.array_equal(shown(data, another), shown(data))
    without = pictures.saved(cmyk_picture(), "TIFF")
    assert not np.array_equal(shown(without, another), shown(data))


def test_cmyk__whose_profile_is_of_no_use_is_not_shown_without_it() -> None:
    damaged = profiles.red_cyan().replace(b"mft1", b"none")
    with pytest.raises(StorageFailure, match="profile for CMYK cannot be used"):
        shown(pictures.saved(cmyk_picture(), "TIFF"), damaged)


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

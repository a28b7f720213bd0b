"""Pixels: every kind of original becomes an upright, small, plain JPEG, or a clear error."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from tests import pictures, profiles
from tests.processes import ROOT
from thumbnails.exceptions import (
    Reason,
    StorageFailure,
    ThumbnailError,
    TooLarge,
    Unreadable,
    Unsupported,
)
from thumbnails.rendering import (
    MEDIA_TYPES,
    Facts,
    Recipe,
    Rendering,
    Variant,
    fit_inside,
    read_size,
    read_stamp,
)
from thumbnails.rendering.inspection import inspect
from thumbnails.rendering.profiles import display_p3
from thumbnails.rendering.render import render

RECIPE = Recipe()
FINGERPRINT = "0123456789abcdef"
MAX_PIXELS = 50_000_000

WHITE = (255, 255, 255)
RED, GREEN, BLUE, YELLOW = (pictures.QUARTERS[name] for name in pictures.UPRIGHT)

Build = Callable[..., bytes]
BUILDS: dict[str, Build] = {
    "JPEG": pictures.jpeg,
    "PNG": pictures.png,
    "GIF": pictures.gif,
    "WEBP": pictures.webp,
    "AVIF": pictures.avif,
    "TIFF": pictures.tiff,
    "BMP": pictures.bmp,
}
TURNABLE = {name: BUILDS[name] for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")}
TURNABLE["MPO"] = pictures.mpo


def rendering_of(
    data: bytes, recipe: Recipe = RECIPE, *, max_pixels: int = MAX_PIXELS
) -> Rendering:
    return render(BytesIO(data), recipe, fingerprint=FINGERPRINT, max_pixels=max_pixels)


def shown(data: bytes, recipe: Recipe = RECIPE) -> Image.Image:
    """The thumbnail as a viewer shows it."""
    thumbnail = pictures.opened(rendering_of(data, recipe).content)
    assert (thumbnail.format, thumbnail.mode) in {("JPEG", "RGB"), ("JPEG", "L")}
    return thumbnail.convert("RGB")


def facts_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Facts:
    return inspect(BytesIO(data), max_pixels=max_pixels)


def quarters(image: Image.Image) -> list[object]:
    """The colours in the middle of each quarter, in the order of `pictures.UPRIGHT`."""
    columns = (image.width // 4, image.width * 3 // 4)
    rows = (image.height // 4, image.height * 3 // 4)
    return [image.getpixel((x, y)) for y in rows for x in columns]


def centre(image: Image.Image) -> object:
    return image.getpixel((image.width // 2, image.height // 2))


def near(colour: tuple[int, ...], tolerance: int = 6) -> object:
    """For comparison: JPEG and colour conversion round."""
    return pytest.approx(colour, abs=tolerance)


def plain(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    """One colour all over, so that no compression blurs it."""
    return Image.new(mode, (32, 32), colour)


# --- Upright --------------------------------------------------------------------------------------

TURNED = {
    f"{name}-{orientation}": (build, orientation)
    for name, build in TURNABLE.items()
    # Formats keep it in places of their own, and Pillow turns two of them by itself.
    for orientation in (pictures.ORIENTATIONS if name == "JPEG" else (5, 6))
}


@pytest.mark.parametrize(("build", "orientation"), TURNED.values(), ids=TURNED)
def test_orientation__is_applied_and_recorded(build: Build, orientation: int) -> None:
    data = build(pictures.scene(640, 480), orientation=orientation)
    thumbnail = shown(data)
    assert thumbnail.size == (256, 192)
    assert pictures.corners(thumbnail) == pictures.UPRIGHT
    facts = facts_of(data)
    assert facts.orientation == orientation
    assert (facts.width, facts.height) == ((640, 480) if orientation < 5 else (480, 640))


def test_orientation__behind_the_pixels_of_a_png_is_applied_and_recorded() -> None:
    data = pictures.png_with_exif_behind(6)
    assert pictures.corners(shown(data)) == pictures.UPRIGHT
    assert facts_of(data).orientation == 6


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_orientation__is_upright_where_its_number_means_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    data = pictures.saved(pictures.scene(), "JPEG", exif=exif.tobytes())
    assert facts_of(data).orientation == 1
    assert pictures.corners(shown(data)) == pictures.UPRIGHT


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the damage
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_orientation__is_upright_where_exif_is_damaged(format_: str) -> None:
    exif = pictures.exif_of(6)
    for length in range(len(b"Exif\0\0") + 1, len(exif) - len(b"Camera\0")):
        data = pictures.saved(pictures.scene(), format_, exif=exif[:length])
        assert facts_of(data).orientation in {1, 6}, length
        assert max(shown(data).size) == 64, length


# --- Size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        pytest.param((4000, 3000), (256, 192), id="landscape"),
        pytest.param((3000, 4000), (192, 256), id="portrait"),
        pytest.param((8000, 500), (256, 16), id="panorama"),
        pytest.param((500, 8000), (16, 256), id="tower"),
        pytest.param((10_000, 3), (256, 1), id="lying-line"),
        pytest.param((3, 10_000), (1, 256), id="standing-line"),
        pytest.param((1, 1), (1, 1), id="pixel"),
        pytest.param((100, 40), (100, 40), id="smaller"),
        pytest.param((256, 256), (256, 256), id="as-large"),
        pytest.param((257, 255), (256, 254), id="a-little-larger"),
    ],
)
def test_render__fits_keeps_the_aspect_and_never_enlarges(
    original: tuple[int, int], expected: tuple[int, int]
) -> None:
    # A JPEG is decoded reduced.
    rendering = rendering_of(pictures.jpeg(pictures.scene(*original)))
    thumbnail = pictures.opened(rendering.content)
    assert thumbnail.size == (rendering.width, rendering.height) == expected
    if min(expected) > 1:
        assert pictures.corners(thumbnail) == pictures.UPRIGHT


def test_render__has_the_size_of_the_recipe() -> None:
    data = pictures.jpeg(pictures.scene(640, 480))
    assert shown(data, Recipe(size_px=100)).size == (100, 75)
    assert shown(data, Recipe(size_px=600)).size == (600, 450)


@pytest.mark.parametrize(
    ("original", "decoded"),
    [
        pytest.param((4100, 3075), (513, 385), id="to-an-eighth"),
        pytest.param((8000, 500), (1000, 63), id="a-panorama-too"),
        pytest.param((1020, 765), (1020, 765), id="never-below-twice-the-thumbnail"),
        pytest.param((300, 225), (300, 225), id="not-at-all"),
    ],
)
def test_render__lets_the_decoder_reduce(
    original: tuple[int, int], decoded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: set[tuple[int, int]] = set()
    load = JpegImageFile.load

    def noting_load(image: JpegImageFile) -> object:
        sizes.add(image.size)
        return load(image)

    monkeypatch.setattr(JpegImageFile, "load", noting_load)
    rendering_of(pictures.jpeg(pictures.scene(*original)))
    assert sizes == {decoded}


def test_render__looks_like_the_whole_picture_turned_and_then_made_small() -> None:
    data = pictures.jpeg(pictures.photo(4000, 3000), orientation=6)
    upright = ImageOps.exif_transpose(pictures.opened(data))
    small = upright.resize((256, 192), Image.Resampling.LANCZOS)
    the_old_way = pictures.opened(pictures.saved(small, "JPEG", quality=RECIPE.quality))
    difference = np.asarray(shown(data), np.float64) - np.asarray(the_old_way, np.float64)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) >= 37


@given(width=st.integers(1, 100_000), height=st.integers(1, 100_000), size_px=st.integers(1, 4096))
def test_fit_inside__fits_keeps_the_aspect_and_never_enlarges(
    width: int, height: int, size_px: int
) -> None:
    fitted = fit_inside(width, height, size_px)
    assert max(fitted) == min(size_px, max(width, height))
    scale = min(Fraction(1), Fraction(size_px, max(width, height)))
    for side, original in zip(fitted, (width, height), strict=True):
        assert 1 <= side <= original
        # Rounded to a whole pixel, of which there is at least one.
        assert side == 1 or abs(side - original * scale) <= Fraction("0.500001")


# --- Transparency ---------------------------------------------------------------------------------


def resaved(data: bytes, format_: str, **options: object) -> bytes:
    return pictures.saved(pictures.opened(data), format_, **options)


LEFT_HALF_TRANSPARENT = {
    "PNG-RGBA": pictures.transparent_png("RGBA"),
    "PNG-P": pictures.transparent_png("P"),
    "WEBP": resaved(pictures.transparent_png("RGBA"), "WEBP", lossless=True),
    "TIFF": resaved(pictures.transparent_png("RGBA"), "TIFF"),
}


@pytest.mark.parametrize("data", LEFT_HALF_TRANSPARENT.values(), ids=LEFT_HALF_TRANSPARENT)
def test_render__is_white_where_the_original_is_transparent(data: bytes) -> None:
    assert quarters(shown(data)) == [near(WHITE), near(GREEN, 12), near(WHITE), near(YELLOW, 12)]


@pytest.mark.parametrize("mode", ["LA", "L"])
def test_render__is_white_where_grey_is_transparent(mode: str) -> None:
    # The grey of green and yellow, by the weights of ITU-R BT.601.
    green, yellow = near((109,) * 3), near((197,) * 3)
    data = pictures.transparent_png(mode)
    assert quarters(shown(data)) == [near(WHITE), green, near(WHITE), yellow]


def palette_with_transparencies() -> bytes:
    """A PNG whose palette has an alpha for each colour: 0 for the red and 255 for all others."""
    image = pictures.scene().quantize(8)
    red = image.getpixel((0, 0))
    return pictures.saved(image, "PNG", transparency=bytes(255 * (n != red) for n in range(8)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(palette_with_transparencies(), id="PNG-P"),
        pytest.param(pictures.gif(transparent=True, frames=3), id="GIF-animated"),
        pytest.param(pictures.saved(pictures.scene(), "PNG", transparency=RED), id="PNG-RGB"),
    ],
)
def test_render__is_white_where_a_colour_stands_for_transparency(data: bytes) -> None:
    assert quarters(shown(data)) == [near(WHITE), near(GREEN), near(BLUE), near(YELLOW)]


def test_render__is_white_where_a_16_bit_grey_stands_for_transparency() -> None:
    pixels = np.full((48, 64), 50_000, np.uint16)
    pixels[:, :32] = 1_234
    data = pictures.saved(Image.fromarray(pixels), "PNG", transparency=1_234)
    grey = near((194, 194, 194))
    assert quarters(shown(data)) == [near(WHITE), grey, near(WHITE), grey]


def half_transparent_palette() -> bytes:
    image = plain("P", 0)
    image.putpalette(bytes(RED))
    return pictures.saved(image, "PNG", transparency=bytes([128]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            pictures.saved(plain("RGBA", (0, 0, 0, 128)), "PNG"), (127, 127, 127), id="black"
        ),
        pytest.param(
            pictures.saved(plain("RGBA", (*RED, 64)), "PNG"), (241, 199, 199), id="a-quarter-of-red"
        ),
        pytest.param(
            pictures.saved(plain("LA", (100, 51)), "PNG"), (224, 224, 224), id="a-fifth-of-grey"
        ),
        pytest.param(half_transparent_palette(), (227, 142, 142), id="half-of-red-in-a-palette"),
    ],
)
def test_render__mixes_the_half_transparent_with_white(
    data: bytes, expected: tuple[int, int, int]
) -> None:
    assert centre(shown(data)) == near(expected, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_render__lets_no_hidden_colour_bleed_over_an_edge(mode: str) -> None:
    image = Image.new("RGBA", (1000, 1000), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (500, 0, 1000, 1000))
    thumbnail = shown(pictures.saved(image.convert(mode), "PNG"))
    assert min(thumbnail.convert("L").tobytes()) >= 252


def test_render__lays_the_transparent_on_the_background_of_the_recipe() -> None:
    data = pictures.saved(plain("RGBA", (0, 0, 0, 0)), "PNG")
    assert centre(shown(data, Recipe(background=(20, 120, 220)))) == near((20, 120, 220))


# --- Colour modes and profiles --------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_render__keeps_colours(build: Build) -> None:
    assert quarters(shown(build())) == [
        near(RED, 9),
        near(GREEN, 9),
        near(BLUE, 9),
        near(YELLOW, 9),
    ]


@pytest.mark.parametrize(
    ("format_", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")]
)
def test_render__shows_16_bit_grey_in_its_whole_range(format_: str, mode: str) -> None:
    order = ">u2" if mode == "I;16B" else "<u2"
    ramp = np.tile(np.linspace(0, 65_535, 256).astype(order), (64, 1))
    image = Image.frombytes(mode, (256, 64), ramp.tobytes())
    thumbnail = shown(pictures.saved(image, format_))
    for x in (0, 1, 64, 128, 192, 255):
        assert thumbnail.getpixel((x, 32)) == near((x, x, x), 3)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_render__shows_black_and_white(format_: str) -> None:
    image = plain("1", 0)
    image.paste(1, (16, 0, 32, 32))
    black = (0, 0, 0)
    thumbnail = shown(pictures.saved(image, format_))
    assert quarters(thumbnail) == [near(black), near(WHITE), near(black), near(WHITE)]


def test_render__smooths_black_and_white() -> None:
    image = Image.fromarray(np.indices((1024, 1024)).sum(axis=0) % 2 == 0)
    assert image.mode == "1"
    assert centre(shown(pictures.saved(image, "PNG"))) == near((127, 127, 127))


@pytest.mark.parametrize(
    "data",
    [
        # With Adobe's marker, which says that full ink is stored as 0.
        pytest.param(pictures.jpeg(mode="CMYK"), id="JPEG"),
        pytest.param(pictures.tiff(mode="CMYK"), id="TIFF"),
    ],
)
def test_render__shows_cmyk_in_its_colours(data: bytes) -> None:
    assert facts_of(data).mode == "CMYK"
    assert quarters(shown(data)) == [near(colour, 9) for colour in (RED, GREEN, BLUE, YELLOW)]


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_render__reads_cmyk_by_its_profile(format_: str) -> None:
    image = Image.new("CMYK", (64, 64), (0, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 32, 64))
    data = pictures.saved(image, format_, icc_profile=profiles.red_cyan())
    red, black = near((255, 0, 0), 12), near((0, 0, 0), 12)
    assert quarters(shown(data)) == [red, black, red, black]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_render__converts_a_colour_profile_to_srgb(format_: str) -> None:
    image = plain("RGB", (200, 100, 50))
    data = pictures.saved(image, format_, quality=95, icc_profile=profiles.rotated())
    assert centre(shown(data)) == near((50, 200, 100))


def test_render__converts_a_wide_gamut_to_srgb() -> None:
    data = pictures.jpeg(plain("RGB", (234, 51, 35)), icc=display_p3())
    assert centre(shown(data)) == near((255, 0, 0), 3)


def test_render__leaves_srgb_as_it_is() -> None:
    data = pictures.jpeg(plain("RGB", (200, 100, 50)), icc=profiles.srgb())
    assert centre(shown(data)) == near((200, 100, 50), 2)


def test_render__converts_a_palette_s_profile() -> None:
    image = plain("RGB", (200, 100, 50)).quantize(2)
    data = pictures.saved(image, "PNG", icc_profile=profiles.rotated())
    assert centre(shown(data)) == near((50, 200, 100))


def test_render__converts_under_transparency() -> None:
    image = plain("RGBA", (200, 100, 50, 128))
    data = pictures.saved(image, "PNG", icc_profile=profiles.rotated())
    assert centre(shown(data)) == near((152, 227, 177), 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(plain("L", 55), 128, id="L"),
        pytest.param(plain("LA", (55, 255)), 128, id="LA"),
        pytest.param(plain("LA", (55, 128)), 191, id="LA-half-transparent"),
        pytest.param(plain("I;16", 55 * 257), 128, id="I;16"),
    ],
)
def test_render__converts_a_grey_profile(image: Image.Image, expected: int) -> None:
    data = pictures.saved(image, "PNG", icc_profile=profiles.linear_grey())
    assert centre(shown(data)) == near((expected,) * 3, 2)


@pytest.mark.parametrize(
    ("image", "profile"),
    [
        pytest.param(plain("RGB", (9, 99, 199)), profiles.broken(), id="cut-off"),
        pytest.param(plain("RGB", (9, 99, 199)), profiles.linear_grey(), id="of-grey-for-RGB"),
        pytest.param(plain("RGB", (9, 99, 199)), profiles.red_cyan(), id="of-CMYK-for-RGB"),
        pytest.param(plain("L", 99), profiles.rotated(), id="of-RGB-for-grey"),
        pytest.param(plain("CMYK", (246, 156, 56, 0)), profiles.rotated(), id="of-RGB-for-CMYK"),
        pytest.param(plain("CMYK", (246, 156, 56, 0)), profiles.broken(), id="cut-off-for-CMYK"),
    ],
)
def test_render__passes_over_a_profile_of_no_use(image: Image.Image, profile: bytes) -> None:
    data = pictures.saved(image, "JPEG", quality=95, icc_profile=profile)
    expected = (99, 99, 99) if image.mode == "L" else (9, 99, 199)
    assert centre(shown(data)) == near(expected)


def test_render__passes_over_a_profile_that_is_no_text_of_bytes() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[TiffImagePlugin.ICCPROFILE] = 1
    tags.tagtype[TiffImagePlugin.ICCPROFILE] = 4  # a 32-bit number
    data = pictures.saved(plain("RGB", (9, 99, 199)), "TIFF", tiffinfo=tags)
    assert centre(shown(data)) == near((9, 99, 199))


def test_render__converts_alike_in_many_threads() -> None:
    data = pictures.jpeg(pictures.photo(800, 600), icc=display_p3())
    alone = rendering_of(data).content
    with ThreadPoolExecutor(4) as threads:
        together = threads.map(rendering_of, [data] * 40)
        assert {rendering.content for rendering in together} == {alone}


# --- The file -------------------------------------------------------------------------------------

APP0, COMMENT, START_OF_SCAN, HUFFMAN_TABLE = 0xE0, 0xFE, 0xDA, 0xC4


def segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Marker and content of each segment before the picture's data (ITU-T T.81, B.1.1.4)."""
    found, position = [], 2
    while (marker := jpeg[position + 1]) != START_OF_SCAN:
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4])
        found.append((marker, jpeg[position + 4 : end]))
        position = end
    return found


def talkative_exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Secret Camera"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "Secret North"
    return exif.tobytes()


def talkative(format_: str) -> bytes:
    """A picture with everything that a file may tell beside its pixels."""
    options: dict[str, object] = {"exif": talkative_exif(), "icc_profile": profiles.srgb()}
    if format_ in {"JPEG", "WEBP", "AVIF"}:
        options["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>Secret</x:xmpmeta>"
    if format_ in {"JPEG", "GIF"}:
        options["comment"] = b"Secret comment"
    if format_ in {"JPEG", "PNG"}:
        options["dpi"] = (300, 300)
    if format_ == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", "Secret author")
        texts.add_itxt("XML:com.adobe.xmp", "Secret")
        options["pnginfo"] = texts
    data = pictures.saved(pictures.scene(), format_, **options)
    assert b"Secret" in data
    return data


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF"])
def test_render__carries_no_metadata_over(format_: str) -> None:
    content = rendering_of(talkative(format_)).content
    assert b"Secret" not in content
    found = segments(content)
    applications = [marker for marker, _ in found if 0xE0 <= marker <= 0xEF]
    assert applications == [APP0]  # JFIF: no EXIF (APP1), no profile (APP2)
    assert [text for marker, text in found if marker == COMMENT] == [
        b"thumbnail " + FINGERPRINT.encode()
    ]
    assert "dpi" not in pictures.opened(content).info


def test_render__has_the_quality_of_the_recipe() -> None:
    data = pictures.jpeg(pictures.photo(640, 480))
    for quality in (30, 85):
        thumbnail = pictures.opened(rendering_of(data, Recipe(quality=quality)).content)
        expected = pictures.opened(pictures.saved(pictures.scene(), "JPEG", quality=quality))
        assert isinstance(thumbnail, JpegImageFile)
        assert isinstance(expected, JpegImageFile)
        assert thumbnail.quantization == expected.quantization


def test_render__is_optimised() -> None:
    content = rendering_of(pictures.jpeg(pictures.photo(640, 480))).content
    tables = [table for marker, table in segments(content) if marker == HUFFMAN_TABLE]
    for_any_picture = pictures.saved(pictures.scene(), "JPEG")
    assert tables
    assert not set(tables) & {table for _, table in segments(for_any_picture)}


def test_render__gives_the_same_bytes_again() -> None:
    data = pictures.jpeg(pictures.photo(640, 480), orientation=8)
    assert rendering_of(data) == rendering_of(data)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_inspect__tells_format_mode_and_size(build: Build) -> None:
    facts = facts_of(build(pictures.scene(70, 50)))
    modes = {pictures.gif: "P"}
    format_ = next(name for name, other in BUILDS.items() if other is build)
    assert (facts.width, facts.height, facts.orientation) == (70, 50, 1)
    assert (facts.format, facts.mode) == (format_, modes.get(build, "RGB"))


def test_inspect__takes_a_phone_s_double_picture_for_a_jpeg() -> None:
    data = pictures.mpo()
    assert pictures.opened(data).format == "MPO"
    assert facts_of(data).format == "JPEG"


@pytest.mark.parametrize("build", [pictures.jpeg, pictures.gif])
def test_inspect__decodes_nothing(build: Build) -> None:
    cut = pictures.truncated(build(pictures.scene(640, 480)))
    assert facts_of(cut).width == 640


# --- Stamp ----------------------------------------------------------------------------------------


def test_read_stamp__finds_what_render_wrote() -> None:
    assert read_stamp(rendering_of(pictures.jpeg()).content) == FINGERPRINT


def test_read_stamp__finds_none_in_any_cut_thumbnail() -> None:
    content = rendering_of(pictures.jpeg()).content
    found = {read_stamp(content[:length]) for length in range(len(content))}
    assert found == {None}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pictures.jpeg(comment=b"a comment"), id="JPEG-with-comment"),
        pytest.param(pictures.png(), id="PNG"),
        pytest.param(pictures.EMPTY, id="empty"),
        pytest.param(b"\xff\xd8", id="beginning"),
        pytest.param(b"\xff\xd8\xff\xd9", id="JPEG-of-nothing"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x00" + bytes(100), id="segment-of-length-0"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x01" + bytes(100), id="segment-of-length-1"),
        pytest.param(b"\xff\xd8\xff\xfe\xff\xffthumbnail 0123", id="comment-beyond-the-end"),
    ],
)
def test_read_stamp__finds_none_in_other_files(data: bytes) -> None:
    assert read_stamp(data) is None
    assert read_stamp(data + b"\xff\xd9") is None


@given(st.binary(max_size=40))
def test_read_stamp__never_stumbles(garbage: bytes) -> None:
    assert read_stamp(b"\xff\xd8\xff" + garbage + b"\xff\xd9") is None


@pytest.mark.parametrize("picture", [pictures.scene(40, 25), pictures.scene(25, 40)])
def test_read_size__is_the_size_that_pillow_finds(picture: Image.Image) -> None:
    for data in (rendering_of(pictures.jpeg(picture)).content, pictures.jpeg(picture)):
        assert read_size(data) == picture.size


def test_read_size__finds_none_in_a_damaged_thumbnail() -> None:
    content = rendering_of(pictures.jpeg()).content
    frame = content.index(b"\xff\xc0")
    assert {read_size(content[:length]) for length in range(frame + 9)} == {None}
    assert read_size(content[: frame + 5] + bytes(4) + content[frame + 9 :]) is None


def test_import__changes_neither_warnings_nor_pillows_limit_of_the_process() -> None:
    program = (
        "import warnings; from PIL import Image; "
        "before = [*warnings.filters], Image.MAX_IMAGE_PIXELS; import thumbnails.rendering.pool; "
        "assert ([*warnings.filters], Image.MAX_IMAGE_PIXELS) == before"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# --- Bad originals --------------------------------------------------------------------------------


def test_render__refuses_a_truncated_picture() -> None:
    for build in (pictures.jpeg, pictures.png, pictures.gif, pictures.webp, pictures.bmp):
        for keep in (0.4, 0.7, 0.95):
            data = pictures.truncated(build(pictures.photo(320, 240)), keep=keep)
            with pytest.raises(Unreadable):
                rendering_of(data)


@pytest.mark.parametrize("build", [pictures.avif, pictures.tiff], ids=["AVIF", "TIFF"])
def test_render__refuses_a_truncated_picture_whose_header_is_cut_too(build: Build) -> None:
    for keep in (0.4, 0.7, 0.95):
        data = pictures.truncated(build(pictures.photo(320, 240)), keep=keep)
        with pytest.raises((Unreadable, Unsupported)):
            rendering_of(data)


@pytest.mark.parametrize(
    ("name", "data"), [("EPS", pictures.eps()), ("PSD", pictures.psd())], ids=["EPS", "PSD"]
)
def test_formats__beside_the_list_are_never_opened(
    name: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Image.open(BytesIO(data)).format == name, "Pillow itself would take it"

    def opening(*_: object) -> None:
        pytest.fail(f"{name} was opened")

    _, accept = Image.OPEN[name]
    monkeypatch.setitem(Image.OPEN, name, (opening, accept))
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", opening)
    with pytest.raises(Unsupported):
        rendering_of(data)


@pytest.mark.parametrize("side", [1_001, 1_500, 16_383])
def test_size__is_refused_before_anything_is_decoded(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in a render process
    for data in (pictures.bomb(side, side), pictures.webp_header(side, side)):
        for attempt in (facts_of, rendering_of):
            with pytest.raises(TooLarge):
                attempt(data, max_pixels=1_000_000)


def test_size__may_be_as_large_as_allowed() -> None:
    data = pictures.png(pictures.scene(40, 25))
    assert rendering_of(data, max_pixels=1_000).width == 40
    with pytest.raises(TooLarge, match=r"40 × 25 pixels .* 999 allowed"):
        rendering_of(data, max_pixels=999)


LONG_HEADERS = {
    "EXIF": (pictures.with_exif_segments, 16, 17, "more than 16 segments of EXIF"),
    "PNG": (pictures.with_png_chunks, 1_000, 10_000, "more than 10,000 parts"),
    "GIF": (pictures.with_gif_comment, 2_000, 5_000, "more than 10,000 parts"),
    "bytes": (lambda number: pictures.with_png_chunks(number, 2**20), 8, 33, "more than 32 MiB"),
}


@pytest.mark.parametrize(
    ("build", "fine", "long", "message"), LONG_HEADERS.values(), ids=LONG_HEADERS
)
def test_header__of_a_length_that_takes_long_to_read_is_refused(
    build: Callable[[int], bytes], fine: int, long: int, message: str
) -> None:
    facts_of(build(fine))
    rendering_of(build(fine))
    for attempt in (facts_of, rendering_of):
        with pytest.raises(TooLarge, match=message):
            attempt(build(long))


def test_scans__more_than_any_encoder_writes_are_refused() -> None:
    assert rendering_of(pictures.with_scans(100)).width == 8
    with pytest.raises(TooLarge, match="more than 100 scans"):
        rendering_of(pictures.with_scans(101))


def test_scans__of_one_component_each_are_counted_too() -> None:
    data = pictures.jpeg()
    first = data.index(b"\xff\xda")
    scans = b"".join(b"\xff\xda\x00\x08\x01%c\x00\x00\x3f\x00" % n for n in (1, 2, 3) * 34)
    with pytest.raises(TooLarge, match="more than 100 scans"):
        rendering_of(data[:first] + scans + data[first:])


def test_rle__is_decoded_in_python_and_may_be_small_only() -> None:
    assert rendering_of(pictures.rle_bmp(2_000, 10)).width == 256
    for attempt in (facts_of, rendering_of):
        with pytest.raises(TooLarge, match=r"4,000,000 allowed in a run-length encoded BMP"):
            attempt(pictures.rle_bmp(2_000, 2_001))


def test_palette__that_is_missing_makes_a_picture_unreadable() -> None:
    for attempt in (facts_of, rendering_of):
        with pytest.raises(Unreadable, match="no palette"):
            attempt(pictures.png_without_palette())


def test_size__of_a_jpeg_is_that_of_its_reduced_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    vast = pictures.vast_jpeg(20_000, 14_000)
    facts = facts_of(vast, max_pixels=200_000_000)
    assert (facts.width, facts.height) == (20_000, 14_000)
    assert rendering_of(vast, max_pixels=200_000_000).height == 179
    data = pictures.jpeg(pictures.scene(800, 600))
    assert rendering_of(data, Recipe(size_px=64), max_pixels=100_000).width == 64
    with pytest.raises(TooLarge, match=r"800 × 600 pixels, .* 480,000 .* 100,000 allowed"):
        rendering_of(data, Recipe(size_px=256), max_pixels=100_000)


@pytest.mark.parametrize(("components", "allowed"), [(1, 500_000 + 125**2), (3, 1_000_000)])
def test_size__of_a_progressive_jpeg_is_that_of_its_coefficients_if_they_are_fewer(
    components: int, allowed: int
) -> None:
    data = pictures.vast_jpeg(1_000, 1_000, components=components, progressive=True)
    facts_of(data, max_pixels=allowed)
    assert rendering_of(data, Recipe(size_px=60), max_pixels=allowed).width == 60
    for attempt in (facts_of, rendering_of):
        with pytest.raises(TooLarge, match="1000 × 1000 pixels"):
            attempt(data, max_pixels=allowed - 1)


def test_size__of_a_jpeg_in_several_scans_is_that_of_its_coefficients() -> None:
    data = pictures.vast_jpeg(1_000, 1_000, components=3)
    start = data.index(b"\xff\xda")
    in_scans = data[:start] + pictures.vast_jpeg(1_000, 1_000)[start - 6 :]
    facts_of(data, max_pixels=125**2)
    with pytest.raises(TooLarge):
        facts_of(in_scans, max_pixels=999_999)


class FailingDisk(BytesIO):
    """A file on a disk that fails at its read of this number, and from then on."""

    def __init__(self, data: bytes, fails_at: int) -> None:
        super().__init__(data)
        self.fails_at = fails_at
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads >= self.fails_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def inspect_file(file: BinaryIO) -> object:
    return inspect(file, max_pixels=MAX_PIXELS)


def render_file(file: BinaryIO) -> object:
    return render(file, RECIPE, fingerprint=FINGERPRINT, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("attempt", "build"),
    [(inspect_file, pictures.jpeg), *((render_file, build) for build in BUILDS.values())],
    ids=["inspect-JPEG", *(f"render-{name}" for name in BUILDS)],
)
def test_disk__that_fails_is_not_taken_for_a_bad_picture(
    attempt: Callable[[BinaryIO], object], build: Build
) -> None:
    data = build(
        pictures.scene(640, 480), **({"orientation": 6} if build in TURNABLE.values() else {})
    )
    healthy = FailingDisk(data, sys.maxsize)
    attempt(healthy)
    assert healthy.reads
    for number in range(1, healthy.reads + 1):
        with pytest.raises(StorageFailure, match="Input/output error"):
            attempt(FailingDisk(data, number))


SAMPLES = [build(pictures.scene(40, 30)) for build in BUILDS.values()] + [
    pictures.jpeg(orientation=6, mode="CMYK", icc=profiles.red_cyan()),
    pictures.transparent_png("P"),
    pictures.gif(transparent=True, frames=2),
    pictures.webp(mode="RGBA", orientation=3),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture of which some bytes were changed, or whose end is missing."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    places = st.integers(0, len(data) - 1)
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        data[place] = value
    return bytes(data if draw(st.booleans()) else data[: draw(places)])


def error_over(attempt: Callable[..., object], data: bytes) -> ThumbnailError | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in production, where Pillow's warnings are no errors
        try:
            attempt(data, max_pixels=1_000_000)
        except ThumbnailError as error:
            return error
    return None


@pytest.mark.parametrize("attempt", [facts_of, rendering_of])
@given(data=st.one_of(damaged(), st.binary(max_size=200)))
def test_bad_bytes__raise_nothing_but_what_blames_them(
    attempt: Callable[..., object], data: bytes
) -> None:
    error = error_over(attempt, data)
    if error is not None:
        assert error.reason in {Reason.UNREADABLE, Reason.UNSUPPORTED, Reason.TOO_LARGE}
        assert str(error)


# --- Variants -------------------------------------------------------------------------------------

VARIANTS = replace(
    RECIPE,
    variants=(
        Variant("-large.avif", 600),
        Variant(".avif", 256),
        Variant(".webp", 256),
        Variant("@2x.jpg", 512),
        Variant("@2x.webp", 512),
    ),
)


def decibels(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))


@pytest.mark.parametrize(
    "data",
    [
        pictures.jpeg(pictures.scene(900, 675), orientation=6, icc=display_p3()),
        pictures.transparent_png("LA"),
        pictures.png(pictures.scene(900, 675), mode="P", orientation=7),
        pictures.tiff(pictures.scene(900, 675), orientation=5),
        pictures.jpeg(mode="L"),
        talkative("JPEG"),
    ],
    ids=["turned-profile", "transparent", "palette", "tiff", "small-grey", "metadata"],
)
def test_variants__are_what_a_render_of_each_alone_would_be(data: bytes) -> None:
    found = rendering_of(data, VARIANTS)
    assert list(found.variants) == [variant.suffix for variant in VARIANTS.variants]
    for variant in VARIANTS.variants:
        alone = shown(data, Recipe(size_px=variant.size_px))
        made = found.variants[variant.suffix]
        image = pictures.opened(made.content)
        assert MEDIA_TYPES[variant.extension] == Image.MIME[str(image.format)]
        assert image.size == (made.width, made.height) == alone.size
        assert decibels(image.convert("RGB"), alone) > 30
        assert not {"icc_profile", "exif", "xmp"} & image.info.keys()
        assert b"Secret" not in made.content
    assert (found.width, found.height) == shown(data).size


def test_variants__are_as_good_as_renders_of_each_alone() -> None:
    photo = pictures.photo(2016, 1512)
    data = pictures.jpeg(photo)
    found = rendering_of(data, VARIANTS)
    for size_px, made in ((256, found.content), (512, found.variants["@2x.jpg"].content)):
        ideal = photo.resize(fit_inside(*photo.size, size_px), Image.Resampling.LANCZOS)
        alone = decibels(shown(data, Recipe(size_px=size_px)), ideal)
        assert decibels(pictures.opened(made), ideal) > alone - 0.1


def test_variants__of_a_small_original_are_no_larger_and_encoded_once() -> None:
    found = rendering_of(pictures.jpeg(pictures.scene(300, 200)), VARIANTS).variants
    assert {
        (found[suffix].width, found[suffix].height) for suffix in ("@2x.jpg", "-large.avif")
    } == {(300, 200)}
    tiny = rendering_of(pictures.jpeg(pictures.scene(30, 20)), VARIANTS)
    assert tiny.variants["@2x.jpg"].content is tiny.content
    assert tiny.variants["@2x.webp"] is tiny.variants[".webp"]


# --- Recipe ---------------------------------------------------------------------------------------

OTHER_RECIPES = [
    replace(RECIPE, size_px=255),
    replace(RECIPE, quality=84),
    replace(RECIPE, background=(255, 255, 254)),
    replace(RECIPE, renderer=RECIPE.renderer + 1),
    replace(RECIPE, variants=(Variant(".webp", 256),)),
    replace(RECIPE, variants=(Variant(".webp", 257),)),
    replace(RECIPE, cmyk_profile="0123456789abcdef"),
]


def test_recipe__has_another_digest_for_each_ingredient() -> None:
    recipes = [RECIPE, *OTHER_RECIPES]
    assert len({recipe.digest for recipe in recipes}) == len(recipes)
    assert len({recipe.fingerprint("1-2") for recipe in recipes}) == len(recipes)


def test_recipe__has_another_fingerprint_for_each_version_of_an_original() -> None:
    versions = ("1-2", "2-2", "1-3", "")
    assert len({RECIPE.fingerprint(version) for version in versions}) == len(versions)


def test_recipe__keeps_its_digest() -> None:
    """Another value here makes all thumbnails of all sites stale: never change it by accident."""
    recipe = Recipe(size_px=256, quality=85, background=(255, 255, 255), renderer=1)
    assert recipe.digest == "7df9613b5922d1f6"
    assert recipe.fingerprint("1234-5678") == "80408dce2b44a043"
    assert replace(RECIPE, renderer=1) == recipe


def test_rendering__imports_no_django() -> None:
    program = "import thumbnails.rendering, sys; assert 'django' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

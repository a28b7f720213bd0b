"""What headers say of originals besides their size, and how it is recorded."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from tests import pictures
from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset
from thumbnails.rendering import FACTS_VERSION, Facts, clean_text
from thumbnails.rendering.facts import UNNAMED_PROFILE
from thumbnails.rendering.inspection import inspect
from thumbnails.rendering.profiles import display_p3
from thumbnails.upkeep.images import serving


def facts_of(data: bytes) -> Facts:
    return inspect(BytesIO(data), max_pixels=1_000_000)


def exif(**texts: str | bytes) -> bytes:
    tags = Image.Exif()
    for name, text in texts.items():
        tags[ExifTags.Base[name]] = text
    return tags.tobytes()


def saved(format_: str, **options: object) -> bytes:
    return pictures.saved(pictures.scene(), format_, **options)


def animation(format_: str, frames: int, **options: object) -> bytes:
    others = [Image.new("RGB", (64, 48), (60 * number, 0, 9)) for number in range(1, frames)]
    return saved(format_, save_all=True, append_images=others, **options)


PLAIN = {
    "camera": "",
    "software": "",
    "bit_depth": 8,
    "has_alpha": False,
    "color_profile": "",
    "frames": 1,
    "note": "",
    "facts_version": FACTS_VERSION,
}
APPLE = exif(Make="Apple", Model="iPhone 12", Software="17.1")
CASES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "JPEG": (saved("JPEG", exif=APPLE), {"camera": "Apple iPhone 12", "software": "17.1"}),
    "MPO": (pictures.mpo(orientation=6), {"camera": "Camera"}),
    "progressive JPEG": (saved("JPEG", progressive=True), {"compression": "progressive"}),
    "JPEG with a profile": (
        pictures.jpeg(icc=display_p3()),
        {"color_profile": "Display P3"},
    ),
    "PNG": (saved("PNG", exif=APPLE), {"camera": "Apple iPhone 12", "software": "17.1"}),
    "PNG of 16 bits": (pictures.png(mode="I;16"), {"bit_depth": 16}),
    "PNG of 1 bit": (pictures.png(mode="1"), {"bit_depth": 1}),
    "PNG, transparent by a colour": (pictures.transparent_png("P"), {"has_alpha": True}),
    "animated PNG": (animation("PNG", 3), {"frames": 3}),
    "GIF": (pictures.gif(transparent=True, frames=3), {"has_alpha": True, "frames": 3}),
    "WebP": (pictures.webp(), {"compression": "lossy"}),
    "lossless WebP": (saved("WEBP", lossless=True), {"compression": "lossless"}),
    "animated WebP": (
        animation("WEBP", 3, lossless=True, exif=APPLE),
        {"frames": 3, "compression": "lossless", "camera": "Apple iPhone 12", "software": "17.1"},
    ),
    "AVIF": (pictures.avif(), {"compression": "lossy"}),
    "TIFF": (pictures.tiff(orientation=6), {"compression": "deflate"}),
    "TIFF of pages": (
        animation("TIFF", 3, compression="tiff_lzw", software="Scan"),
        {"compression": "lzw", "frames": 3, "software": "Scan"},
    ),
    "BigTIFF of pages": (animation("TIFF", 3, big_tiff=True), {"compression": "none", "frames": 3}),
    "TIFF of 16 bits": (pictures.saved(Image.new("I;16", (9, 9)), "TIFF"), {"bit_depth": 16}),
    "BMP": (pictures.bmp(), {"compression": "none"}),
}
COMPRESSIONS = {"JPEG": "baseline", "PNG": "lossless", "GIF": "lossless", "TIFF": "none"}


@pytest.mark.parametrize(("data", "expected"), CASES.values(), ids=CASES)
def test_inspect__tells_what_the_header_says(data: bytes, expected: dict[str, Any]) -> None:
    facts = facts_of(data)
    expected = {**PLAIN, "compression": COMPRESSIONS.get(facts.format), **expected}
    assert {name: getattr(facts, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
        ("Apple", "", "Apple"),
        ("", "iPhone 12", "iPhone 12"),
        ("M" * 70, "N" * 70, f"{'M' * 70} {'N' * 9}"),
    ],
)
def test_camera__says_the_make_once(make: str, model: str, camera: str) -> None:
    assert facts_of(saved("JPEG", exif=exif(Make=make, Model=model))).camera == camera


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  A \t B\n\x1b[31m\u202e ", "A B [31m"),
        ("Photo\0\0garbage", "Photo"),
        ("x" * 1_000_000, "x" * 80),
        ("x" * 79 + " y", "x" * 79),
        ("None", ""),
        (None, ""),
    ],
)
def test_texts__are_one_short_printable_line(value: object, text: str) -> None:
    assert clean_text(value) == text
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"Fotoger\xc3\xa4t", "Fotogerät"),
        (b"Fotoger\xe4t", "Fotogerät"),
        ("日本".encode(), "日本"),
        (b"\xff\xfe\x01", "ÿþ"),
        (b"\0", ""),
    ],
)
def test_texts__of_files_are_utf_8_or_latin_1(value: bytes, text: str) -> None:
    assert facts_of(saved("JPEG", exif=exif(Software=value))).software == text


def test_color_profile__is_unnamed_if_it_is_damaged() -> None:
    assert facts_of(pictures.jpeg(icc=b"no profile")).color_profile == UNNAMED_PROFILE


def test_bit_depth__of_a_tga_is_that_of_a_channel() -> None:
    header = bytes([0, 0, 2, *[0] * 9]) + struct.pack("<HHBB", 1, 1, 16, 0)
    facts = inspect(BytesIO(header + bytes(2)), max_pixels=1, formats=("TGA",))
    assert (facts.mode, facts.bit_depth) == ("RGBA", 5)


def test_bit_depth__of_an_avif_is_its_codec_s() -> None:
    data = bytearray(pictures.avif())
    data[data.index(b"av1C") + 6] |= 0x40
    channels = data.index(b"pixi") + 9
    data[channels : channels + 3] = bytes((10, 10, 10))
    assert facts_of(bytes(data)).bit_depth == 10


def test_frames__end_where_the_file_does_or_goes_in_circles() -> None:
    gif = pictures.gif(frames=5)
    cut = gif[: len(gif) // 2]
    assert 1 < facts_of(cut).frames < 5
    tiff = bytearray(animation("TIFF", 3))
    (first,) = struct.unpack("<I", tiff[4:8])
    (entries,) = struct.unpack("<H", tiff[first : first + 2])
    link = first + 2 + 12 * entries
    tiff[link : link + 4] = struct.pack("<I", first)
    assert facts_of(bytes(tiff)).frames == 1


def test_refresh__describes_also_what_cannot_be_rendered(
    make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(saved("JPEG"))
    (originals_dir / str(asset)).write_bytes(pictures.truncated(pictures.png(mode="P")))
    serving.render_now(asset.pk)
    asset.refresh_from_db()
    assert asset.thumbnail_error == "unreadable"
    assert (asset.format, asset.mode, asset.compression) == ("PNG", "P", "lossless")


@pytest.mark.parametrize("is_known", [False, True])
def test_refresh__describes_what_an_older_version_has_recorded(
    make_asset: MakeAsset, is_known: bool
) -> None:
    asset = make_asset(saved("JPEG", exif=APPLE))
    described = {"camera": asset.camera, "frames": asset.frames}
    assert described == {"camera": "Apple iPhone 12", "frames": 1}
    version = FACTS_VERSION if is_known else 0
    ImageAsset.objects.update(camera="", frames=None, facts_version=version)
    serving.render_now(asset.pk)
    asset.refresh_from_db()
    assert asset.facts_version == FACTS_VERSION
    # What is described already is not read again.
    expected = {"camera": "", "frames": None} if is_known else described
    assert {name: getattr(asset, name) for name in described} == expected

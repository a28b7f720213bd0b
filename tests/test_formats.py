"""Formats of originals: what is taken, what is shown of it, and what is said of the others."""

from __future__ import annotations

import struct
import subprocess
import sys
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import reverse
from PIL import Image
from pytest_django import Settings

from tests import pictures
from tests.processes import ROOT
from tests.raw_photos import raw_photo
from tests.waiting import PATIENCE_SECONDS
from thumbnails import conf
from thumbnails.exceptions import TooLarge, Unreadable, Unsupported
from thumbnails.models import ImageAsset
from thumbnails.models.results import save_results
from thumbnails.rendering import DEFAULT_FORMATS, FORMATS, Facts, Recipe
from thumbnails.rendering.inspection import inspect
from thumbnails.rendering.pool import Limits, RenderPool
from thumbnails.rendering.profiles import display_p3
from thumbnails.rendering.render import render
from thumbnails.rendering.signatures import kind_of
from thumbnails.rendering.spool import Spool
from thumbnails.upkeep.images import freshness, pools
from thumbnails.upkeep.images.importing import import_file

ALL = tuple(FORMATS)
MAX_PIXELS = 1_000_000
WHITE = (255, 255, 255)


def needs(name: str) -> pytest.MarkDecorator:
    """Skips where the package that decodes this format is not installed."""
    format_ = FORMATS[name]
    return pytest.mark.skipif(
        not format_.is_installed, reason=f"{format_.package} is not installed"
    )


def facts_of(data: bytes, formats: tuple[str, ...] = ALL) -> Facts:
    return inspect(BytesIO(data), max_pixels=MAX_PIXELS, formats=formats)


def shown(data: bytes, size_px: int = 256) -> Image.Image:
    recipe = Recipe(size_px=size_px)
    made = render(BytesIO(data), recipe, fingerprint="0" * 16, max_pixels=MAX_PIXELS, formats=ALL)
    return pictures.opened(made.content).convert("RGB")


def heic(name: str) -> bytes:
    return (ROOT / "tests" / "heic" / f"{name}.heic").read_bytes()


# --- HEIC -----------------------------------------------------------------------------------------

EXIF_ORIENTATION = b"\x01\x12\0\3\0\0\0\1\0"
"""The entry in EXIF; its value is the next byte."""


@pytest.mark.parametrize("orientation", pictures.ORIENTATIONS)
def test_heic__is_turned_once_by_what_container_and_exif_say_both(orientation: int) -> None:
    data = heic(f"orientation-{orientation}")
    thumbnail = shown(data)
    assert thumbnail.size == (64, 48)
    assert pictures.corners(thumbnail) == pictures.UPRIGHT
    facts = facts_of(data, DEFAULT_FORMATS)
    assert (facts.format, facts.orientation) == ("HEIC", orientation)
    assert (facts.width, facts.height) == ((64, 48) if orientation < 5 else (48, 64))


@pytest.mark.parametrize(
    ("was", "instead"),
    [
        pytest.param(b"irot\3", b"irot\0", id="exif-alone"),
        pytest.param(EXIF_ORIENTATION + b"\6", EXIF_ORIENTATION + b"\1", id="container-alone"),
        pytest.param(EXIF_ORIENTATION + b"\6", EXIF_ORIENTATION + b"\3", id="exif-says-another"),
    ],
)
def test_heic__is_turned_by_its_container_or_else_by_exif(was: bytes, instead: bytes) -> None:
    data = heic("orientation-6")
    assert data.count(was) == 1
    data = data.replace(was, instead)
    assert pictures.corners(shown(data)) == pictures.UPRIGHT
    facts = facts_of(data)
    assert (facts.orientation, facts.width, facts.height) == (6, 48, 64)


@pytest.mark.parametrize("name", ["10-bit", "second-is-primary", "thumbnail"])
def test_heic__is_its_primary_picture_of_any_depth(name: str) -> None:
    assert pictures.corners(shown(heic(name))) == pictures.UPRIGHT


def test_heic__may_have_transparency_a_profile_or_greys() -> None:
    assert shown(heic("alpha")).getpixel((16, 12)) == WHITE
    for wide in ("display-p3", "display-p3-nclx"):
        assert shown(heic(wide)).getpixel((32, 24)) == pytest.approx((255, 0, 0), abs=6)
        assert facts_of(heic(wide)).color_profile == "Display P3"
    assert facts_of(heic("grey")).mode == "L"


def test_heic__has_the_facts_of_other_photos() -> None:
    turned = facts_of(heic("orientation-6"))
    assert (turned.camera, turned.bit_depth, turned.compression) == ("Camera", 8, "lossy")
    assert facts_of(heic("10-bit")).bit_depth == 10
    assert facts_of(heic("alpha")).has_alpha
    assert facts_of(heic("second-is-primary")).frames == 2


def test_heic__is_bad_where_it_is_cut() -> None:
    data = heic("orientation-6")
    for end in (20, 300, len(data) - 60):
        with pytest.raises(Unreadable):
            shown(data[:end])


def test_heic__of_another_size_than_its_container_says_is_refused() -> None:
    data = bytearray(heic("orientation-3"))
    struct.pack_into(">I", data, data.index(b"clap") + 12, 65_584)  # its clean aperture's height
    with pytest.raises(Unreadable, match="another size"):
        render(BytesIO(data), Recipe(), fingerprint="0" * 16, max_pixels=10**8)


def test_heic__with_names_that_are_no_text_does_not_reach_the_decoder() -> None:
    # pi-heif 1.4 dereferences a null pointer over the kind of an item that is not UTF-8.
    with pytest.raises(Unreadable):
        facts_of(heic("orientation-6").replace(b"\0\0Exif", b"\0\0Ex\xe9f"))


# --- By setting -----------------------------------------------------------------------------------


def psd() -> bytes:
    """A Photoshop document's composite: the scene, in planes."""
    scene = pictures.scene()
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, scene.height, scene.width, 8, 3)
    planes = b"".join(plane.tobytes() for plane in scene.split())
    return header + bytes(12) + bytes(2) + planes


PILLOWS = {
    "ICO": pictures.saved(pictures.scene(48, 36), "ICO", sizes=[(48, 36)]),
    "JPEG2000": pictures.saved(pictures.scene(), "JPEG2000"),
    "PPM": pictures.saved(pictures.scene(), "PPM"),
    "PSD": psd(),
    "TGA": pictures.saved(pictures.scene(), "TGA"),
}


@pytest.mark.parametrize(("name", "data"), PILLOWS.items(), ids=PILLOWS)
def test_format__is_taken_where_the_site_takes_it(name: str, data: bytes) -> None:
    assert pictures.corners(shown(data)) == pictures.UPRIGHT
    assert facts_of(data, (*DEFAULT_FORMATS, name)).format == name
    with pytest.raises(Unsupported, match=f"{FORMATS[name].label}, which this site does not take"):
        facts_of(data, DEFAULT_FORMATS)


def test_tga__needs_no_signature_and_everything_else_is_still_no_picture() -> None:
    data = PILLOWS["TGA"].removesuffix(b"TRUEVISION-XFILE.\0")
    assert facts_of(data).format == "TGA"
    for nothing in (pictures.TEXT, b"\xff\xfe" * 40):
        with pytest.raises(Unsupported):
            facts_of(nothing)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_icon__may_be_a_bitmap_whose_size_is_looked_at_first(mode: str) -> None:
    image = pictures.scene(32, 24)
    image = image.quantize(8) if mode == "P" else image
    data = bytearray(pictures.saved(image, "ICO", sizes=[(32, 24)], bitmap_format="bmp"))
    assert pictures.corners(shown(bytes(data))) == pictures.UPRIGHT
    struct.pack_into("<ii", data, 22 + 4, 30_000, 60_000)  # in the bitmap's own header
    with pytest.raises(TooLarge):
        facts_of(bytes(data))


def test_icon__of_a_png_is_judged_by_the_size_of_the_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in a render process
    png = pictures.bomb()
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png), 22)
    with pytest.raises(TooLarge):
        facts_of(directory + png)


def test_jpeg_2000__is_judged_by_its_size_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in a render process
    data = pictures.saved(pictures.scene(), "JPEG2000", no_jp2=True)
    data = data.replace(struct.pack(">II", 64, 48), struct.pack(">II", 60_000, 60_000))
    with pytest.raises(TooLarge):
        facts_of(data)


# --- RAW ------------------------------------------------------------------------------------------


@needs("RAW")
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("preview", ["plain", "with-exif", "upright"])
def test_raw__shows_the_preview_turned_once(orientation: int, preview: str) -> None:
    upright = pictures.scene(120, 160) if orientation > 4 else pictures.scene(160, 120)
    jpeg = {
        "plain": pictures.jpeg(pictures.laid(upright, orientation)),
        "with-exif": pictures.jpeg(upright, orientation=orientation),
        # A half turn cannot be told from none.
        "upright": pictures.jpeg(
            upright if orientation > 4 else pictures.laid(upright, orientation)
        ),
    }[preview]
    data = raw_photo(jpeg, orientation=orientation)
    thumbnail = shown(data)
    assert thumbnail.size == upright.size
    assert pictures.corners(thumbnail) == pictures.UPRIGHT
    assert facts_of(data).format == "RAW"


@needs("RAW")
def test_raw__without_a_jpeg_as_its_preview_is_not_shown() -> None:
    with pytest.raises(Unsupported, match="has no JPEG"):
        facts_of(raw_photo())


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (raw_photo(pictures.jpeg()), "DNG"),
        (raw_photo(pictures.jpeg(), maker=b"NIKON CORPORATION", is_dng=False), "NEF"),
        (raw_photo(pictures.jpeg(), maker=b"SONY", is_dng=False), "ARW"),
        (raw_photo(pictures.jpeg(), is_dng=False), "of a camera"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"FUJIFILMCCD-RAW 0201", "RAF"),
    ],
    ids=["DNG", "NEF", "ARW", "other", "CR2", "CR3", "RAF"],
)
def test_raw__is_not_taken_for_the_tiff_that_it_begins_with(data: bytes, name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        facts_of(data, DEFAULT_FORMATS)
    assert str(caught.value).startswith(
        f"This is a RAW photo ({name}), which this site does not take: it takes JPEG, "
    )


def test_tiff__with_damaged_or_endless_folders_is_no_raw_photo() -> None:
    circular = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 64, 8)
    for data in (circular, circular[:12], b"MM\0*\xff\xff\xff\xff"):
        assert kind_of(BytesIO(data)).format == "TIFF"


# --- JPEG XL --------------------------------------------------------------------------------------


def jxl(image: Image.Image, **options: object) -> bytes:
    data = import_module("pylibjxl").encode(np.asarray(image), **options)
    assert isinstance(data, bytes)
    return data


@needs("JXL")
def test_jxl__shows_colours_transparency_and_greys() -> None:
    assert pictures.corners(shown(jxl(pictures.scene()))) == pictures.UPRIGHT
    assert shown(jxl(pictures.half_transparent(), lossless=True)).getpixel((16, 12)) == WHITE
    profile = display_p3()
    red = jxl(Image.new("RGB", (64, 48), (234, 51, 35)), lossless=True, icc=profile)
    assert shown(red).getpixel((32, 24)) == pytest.approx((255, 0, 0), abs=6)
    facts = facts_of(jxl(pictures.scene().convert("L"), exif=pictures.exif_of(6)))
    assert (facts.format, facts.mode, facts.width, facts.orientation) == ("JXL", "L", 64, 1)


@needs("JXL")
@pytest.mark.parametrize("orientation", pictures.ORIENTATIONS)
def test_jxl__is_turned_and_its_orientation_recorded(orientation: int) -> None:
    data = turned_jxl(pictures.laid(pictures.scene(), orientation), orientation)
    assert pictures.corners(shown(data)) == pictures.UPRIGHT
    facts = facts_of(data)
    assert facts.orientation == orientation
    assert (facts.width, facts.height) == ((64, 48) if orientation < 5 else (48, 64))


def turned_jxl(image: Image.Image, orientation: int) -> bytes:
    """A JPEG XL with this orientation in its header (ISO/IEC 18181-1, Annex D), which the encoder
    cannot write."""
    data = jxl(image)
    bits = unpacked(data[2:])
    # The size is that of a small picture: sides of a multiple of 8, up to 256, or a ratio of them.
    assert bits[0] == "1"
    size_bits = 1 + 5 + 3 + (5 if bits[6:9] == "000" else 0)
    # Whole numbers of 8 bits, no extra channel, a colour space by default.
    head, rest = bits[size_bits : size_bits + 13], bits[-(-(size_bits + 13) // 8) * 8 :]
    assert (head[:2], head[9:]) == ("00", "1001")
    number = f"{orientation - 1:03b}"[::-1]
    # There are further fields: the orientation, no other size, preview or animation, and after the
    # colour space the tone mapping by default.
    return (
        data[:2] + packed(f"{bits[:size_bits]}01{number}000{head[2:10]}1{head[10:]}") + packed(rest)
    )


def unpacked(data: bytes) -> str:
    """Its bits, lowest first."""
    return "".join(f"{byte:08b}"[::-1] for byte in data)


def packed(bits: str) -> bytes:
    whole = bits + "0" * (-len(bits) % 8)
    return bytes(int(whole[at : at + 8][::-1], 2) for at in range(0, len(whole), 8))


@needs("JXL")
def test_jxl__premultiplied_colours_are_not_multiplied_again() -> None:
    data = jxl(Image.new("RGBA", (64, 48), (128, 0, 0, 128)), lossless=True)
    bits = unpacked(data[2:])
    size_bits = 9
    assert bits[size_bits:][:14] == "00000110101001"  # 8 bits, an alpha channel by default
    # An alpha channel of 8 bits without a name, associated.
    header = f"{bits[: size_bits + 8]}00000000001{bits[size_bits + 9 : size_bits + 14]}"
    found = shown(data[:2] + packed(header) + data[5:]).getpixel((32, 24))
    assert found == pytest.approx((255, 127, 127), abs=3)


@needs("JXL")
def test_jxl__colours_that_libjxl_leaves_linear_get_their_curve() -> None:
    decoder = import_module("thumbnails.rendering.decoders.jxl")
    data = jxl(pictures.scene(), lossless=True, icc=display_p3())
    codestream = data[data.index(b"jxlc") + 4 :]
    bits = unpacked(codestream[2:])
    is_xyb = 9 + 8
    assert bits[is_xyb : is_xyb + 3] == "001"  # it is not, and has an ICC profile
    in_xyb = codestream[:2] + packed(f"{bits[:is_xyb]}1{bits[is_xyb + 1 :]}")
    found = [decoder.read_image_header(one).is_linear for one in (codestream, in_xyb)]
    assert found == [False, True]
    linear = Image.new("RGBA", (1, 1), (0, 55, 255, 55))
    assert decoder.with_curve(linear).getpixel((0, 0)) == (0, 128, 255, 55)


@needs("JXL")
def test_jxl__cmyk_is_refused() -> None:
    data = jxl(Image.new("RGBA", (64, 48)), lossless=True)
    bits = unpacked(data[2:])
    # An extra channel of kind 4, in place of alpha.
    header = f"{bits[:17]}001010000000000{bits[18:23]}"
    with pytest.raises(Unsupported, match="CMYK"):
        facts_of(data[:2] + packed(header) + data[5:])


# --- Drawings -------------------------------------------------------------------------------------

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
QUARTERS = "".join(
    f'<rect x="{x}" y="{y}" width="2" height="1.5" fill="rgb{pictures.QUARTERS[name]}"/>'
    for name, x, y in zip(pictures.UPRIGHT, (0, 2, 0, 2), (0, 0, 1.5, 1.5), strict=True)
)


@needs("SVG")
@pytest.mark.parametrize(
    "attributes",
    [
        'viewBox="0 0 4 3"',
        'width="4" height="3"',
        'width="4cm" viewBox="0 0 4 3"',
        'width="100%" height="30mm" viewBox="0,0,4,3"',
        'width="4000000" height="3000000" viewBox="0 0 4 3"',
    ],
)
def test_svg__is_drawn_at_the_size_that_is_needed(attributes: str) -> None:
    data = f"{SVG}{attributes}>{QUARTERS}</svg>".encode()
    facts = facts_of(data)
    assert (facts.format, facts.width, facts.height) == ("SVG", 4096, 3072)
    for size_px in (64, 300):
        thumbnail = shown(data, size_px)
        assert thumbnail.size == (size_px, size_px * 3 // 4)
        assert pictures.corners(thumbnail) == pictures.UPRIGHT


@needs("SVG")
@pytest.mark.parametrize(
    "image",
    [
        '<image href="{path}" width="4" height="3"/>',
        '<image xlink:href="{path}" width="4" height="3"/>',
        '<image href="file://{path}" width="4" height="3"/>',
        '<image href="&#x2F;{path}" width="4" height="3"/>',
        '<filter id="f"><feImage href="{path}"/></filter><path d="M0 0H4V3Z" filter="url(#f)"/>',
    ],
)
def test_svg__shows_nothing_of_other_files(image: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.new("RGB", (4, 3), "red").save(path)
    drawing = f'{SVG}viewBox="0 0 4 3">{image.format(path=path)}</svg>'
    assert shown(drawing.encode()).getpixel((128, 96)) == WHITE


@needs("SVG")
def test_svg__may_hold_a_picture() -> None:
    data = import_module("base64").b64encode(pictures.png()).decode()
    image = f'<image href="data:image/png;base64,{data}" width="4" height="3"/>'
    assert (
        pictures.corners(shown(f'{SVG}viewBox="0 0 4 3">{image}</svg>'.encode()))
        == pictures.UPRIGHT
    )


@needs("SVG")
def test_svg__needs_no_font_and_no_sound_markup() -> None:
    shown(f'{SVG}viewBox="0 0 4 3"><text y="3">Text</text></svg>'.encode())
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bad = [
        f'<!DOCTYPE svg [<!ENTITY a0 "ha">{laughs}]>{SVG}viewBox="0 0 4 3"><g id="&a9;"/></svg>',
        f'{SVG}viewBox="0 0 4 3"><g>',
        '<html:p xmlns:html="a"><svg></svg></html:p>',
        f"{SVG}>" + "<g>" * 100_000 + "</g>" * 100_000 + "</svg>",
    ]
    for text in bad:
        with pytest.raises((Unreadable, Unsupported)):
            shown(text.encode())
    with pytest.raises(TooLarge):
        facts_of(f"{SVG}>".encode() + b" " * 2**23)


@needs("PDF")
def test_pdf__shows_its_first_page_at_the_size_that_is_needed() -> None:
    pages = [Image.new("RGB", (640, 480), "grey")]
    data = pictures.saved(pictures.scene(640, 480), "PDF", save_all=True, append_images=pages)
    facts = facts_of(data)
    assert (facts.format, facts.mode, facts.width, facts.height) == ("PDF", "RGB", 4096, 3072)
    for size_px in (64, 900):
        thumbnail = shown(data, size_px)
        assert thumbnail.size == (size_px, size_px * 3 // 4)
        assert pictures.corners(thumbnail) == pictures.UPRIGHT


@needs("PDF")
def test_pdf__header_is_read_without_what_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures.saved(pictures.scene(640, 480), "PDF")
    monkeypatch.delattr("pypdfium2.PdfDocument.get_page")
    assert facts_of(data).format == "PDF"


@needs("PDF")
def test_pdf__that_is_damaged_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        shown(b"%PDF-1.4\n" + bytes(200))


# --- What it is, of what is refused ---------------------------------------------------------------

REFUSED = {
    "an empty file": b"",
    "a text file": "Grüße\n".encode() * 600,
    "an HTML page": b"\n<!DOCTYPE html>\n<html><svg></svg></html>",
    "an XML document": b'<?xml version="1.0"?><a/>',
    "a ZIP archive": b"PK\3\4" + bytes(30),
    "a tar archive": b"a.txt".ljust(257, b"\0") + b"ustar\x0000",
    "an MP4 video": b"\0\0\0\x18ftypisom\0\0\2\0isommp42",
    "a QuickTime video": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "an AVI video": b"RIFF\0\0\0\0AVI LIST",
    "a PostScript document": pictures.eps(),
    "a large Photoshop document (PSB)": b"8BPS\0\2" + bytes(30),
    "a PDF document": b"\n%PDF-1.7\n",
    "an SVG drawing": b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a Windows icon": b"\0\0\1\0\1\0" + bytes(16),
    "a Windows cursor": b"\0\0\2\0\1\0" + bytes(16),
    "a HEIC picture": b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf",
    "a HEIF picture without HEVC": b"\0\0\0\x1cftypavci\0\0\0\0mif1avcimiaf",
    "a low-overhead HEIF picture": b"\0\0\0\x10ftypmif3heic",
}


@pytest.mark.parametrize(("label", "data"), REFUSED.items(), ids=REFUSED)
def test_refusal__names_what_it_is(label: str, data: bytes) -> None:
    with pytest.raises(Unsupported) as caught:
        facts_of(data, ("JPEG", "PNG", "GIF"))
    assert str(caught.value) == (
        f"This is {label}, which this site does not take: it takes JPEG, PNG and GIF."
    )


def test_refusal__of_what_is_unknown_says_what_is_taken() -> None:
    with pytest.raises(Unsupported, match=r"^Not a picture in one of JPEG, PNG\.$"):
        facts_of(b"\x80\x90\xa0", ("JPEG", "PNG"))


# --- The setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("default", DEFAULT_FORMATS),
        ("png, Jpeg", ("JPEG", "PNG")),
        ("psd,default", (*DEFAULT_FORMATS, "PSD")),
        (["ICO", "HEIC"], ("HEIC", "ICO")),
    ],
)
def test_setting__is_a_list_of_names(
    value: object, expected: tuple[str, ...], settings: Settings
) -> None:
    settings.THUMBNAIL_FORMATS = value
    assert conf.current().formats == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("JPEG,HEIF", "'HEIF' names no format; there are JPEG, PNG, "),
        ("", "'' names no format"),
        ([], "an empty list names no format"),
        (7, 'must be a text such as "default,PSD", or a list of names, not 7'),
    ],
)
def test_setting__with_a_wrong_value_stops_the_start(
    value: object, message: str, settings: Settings
) -> None:
    settings.THUMBNAIL_FORMATS = value
    with pytest.raises(ImproperlyConfigured, match=message):
        conf.current()


def test_setting__says_what_to_install_for_a_format(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnails.rendering.formats.find_spec", lambda _: None)
    settings.THUMBNAIL_FORMATS = "JPEG,SVG"
    with pytest.raises(ImproperlyConfigured, match="SVG needs the package resvg-py"):
        conf.current()


def test_decoders__are_loaded_by_render_processes_alone_and_when_they_are_needed() -> None:
    program = """
import sys
from thumbnails.rendering import FORMATS, formats_named
from thumbnails.rendering.pool import RenderPool
formats_named([name for name, format_ in FORMATS.items() if format_.is_installed])
loaded = {format_.package for format_ in FORMATS.values()} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


LIMITS = Limits(seconds=PATIENCE_SECONDS, memory_bytes=2**30)


def samples_of_all() -> dict[str, bytes]:
    """The scene, by the names of formats whose packages are installed."""
    samples = {
        **PILLOWS,
        "HEIC": heic("orientation-6"),
        "RAW": raw_photo(pictures.jpeg()),
        "SVG": f'{SVG}viewBox="0 0 4 3">{QUARTERS}</svg>'.encode(),
        "PDF": pictures.saved(pictures.scene(), "PDF"),
    }
    if FORMATS["JXL"].is_installed:
        samples["JXL"] = jxl(pictures.scene())
    return {name: data for name, data in samples.items() if FORMATS[name].is_installed}


def test_pool__takes_originals_in_its_formats() -> None:
    # Their decoders are loaded beside the narrow limits of reading a header.
    samples = samples_of_all()
    with RenderPool(1, LIMITS, formats=tuple(samples)) as pool:
        for name, data in samples.items():
            with Spool.of(data) as spool:
                rendering, facts = pool.render(
                    spool,
                    Recipe(),
                    name="a",
                    fingerprint="",
                    max_pixels=MAX_PIXELS,
                    with_facts=True,
                )
                assert pictures.corners(pictures.opened(rendering.content)) == pictures.UPRIGHT
                assert facts == pool.inspect(spool, name="a", max_pixels=MAX_PIXELS)
                assert facts is not None
                assert facts.format == name
        with Spool.of(pictures.png()) as spool, pytest.raises(Unsupported, match="a PNG picture"):
            pool.inspect(spool, name="a", max_pixels=MAX_PIXELS)


@pytest.mark.django_db
def test_upload__offers_files_in_the_formats_that_are_taken(
    staff_client: Client, settings: Settings
) -> None:
    settings.THUMBNAIL_FORMATS = "JPEG,HEIC"
    page = staff_client.get(reverse("admin:thumbnails_imageasset_add"))
    assert 'accept=".jpg,.jpeg,.jpe,.heic,.heif,.hif"' in page.content.decode()


@pytest.mark.django_db
def test_refused__is_taken_by_the_next_import_after_the_setting_changes(
    originals_dir: Path, settings: Settings
) -> None:
    (originals_dir / "a.psd").write_bytes(psd())
    with pytest.raises(Unsupported, match="Photoshop"):
        import_file(originals_dir / "a.psd")
    settings.THUMBNAIL_FORMATS = "default,PSD"
    assert import_file(originals_dir / "a.psd").format == "PSD"


@pytest.mark.django_db
def test_refused__is_tried_again_by_the_next_run_after_the_setting_changes(
    originals_dir: Path, thumbnail_dir: Path, settings: Settings
) -> None:
    settings.THUMBNAIL_FORMATS = "default,PSD"
    (originals_dir / "a.psd").write_bytes(psd())
    asset = import_file(originals_dir / "a.psd")
    settings.THUMBNAIL_FORMATS = "default"
    assert refreshed(asset).thumbnail_error == "unsupported"
    settings.THUMBNAIL_FORMATS = "default,PSD"
    assert refreshed(asset).state == "fresh"


def refreshed(asset: ImageAsset) -> ImageAsset:
    """As one of a run's images."""
    asset.refresh_from_db()
    save_results([freshness.refresh(asset, pools.worker_pool(large=False))])
    asset.refresh_from_db()
    return asset

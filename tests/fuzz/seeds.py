"""Small good pictures of each format, from which hostile ones are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

import numpy as np
from PIL import Image

from tests import pictures, profiles
from tests.fuzz.examination import TAKEN
from tests.processes import ROOT
from tests.raw_photos import raw_photo

WIDTH, HEIGHT = 24, 18


def formats() -> tuple[str, ...]:
    """Returns the names of all formats whose decoders are installed."""
    return TAKEN


@cache
def of(format_: str) -> tuple[bytes, ...]:
    """Returns the seeds of a format; none if no part of the development environment writes it."""
    if format_ in BUILDS:
        return BUILDS[format_]()
    Image.init()
    if format_ in Image.SAVE:
        return tuple(pictures.saved(_scene(mode), format_) for mode in _modes(format_))
    return ()


@cache
def of_all() -> tuple[bytes, ...]:
    """Returns the seeds of all formats."""
    return tuple(seed for format_ in formats() for seed in of(format_))


def _scene(mode: str = "RGB") -> Image.Image:
    return pictures.scene(WIDTH, HEIGHT).convert(mode)


def _modes(format_: str) -> list[str]:
    """Those of some modes in which Pillow writes the format."""
    taken = []
    for mode in ("RGB", "L", "1", "RGBA", "P", "CMYK"):
        try:
            pictures.saved(_scene(mode), format_)
        except (OSError, ValueError, KeyError):
            continue
        taken.append(mode)
    return taken


def _jpegs() -> tuple[bytes, ...]:
    scene = _scene()
    return (
        pictures.jpeg(scene, orientation=6),
        pictures.jpeg(scene, mode="L", comment=b"seed"),
        pictures.jpeg(scene, mode="CMYK", icc=profiles.red_cyan()),
        pictures.saved(scene, "JPEG", progressive=True, restart_marker_blocks=2),
        pictures.mpo(scene),
    )


def _pngs() -> tuple[bytes, ...]:
    scene = _scene()
    modes = [pictures.png(scene, mode=mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    return (
        pictures.png(scene, orientation=6),
        *modes,
        pictures.transparent_png("P"),
        pictures.saved(scene, "PNG", icc_profile=profiles.red_cyan()),
        pictures.saved(scene, "PNG", save_all=True, append_images=[scene.rotate(180)]),
    )


def _gifs() -> tuple[bytes, ...]:
    scene = _scene()
    commented = pictures.saved(scene, "GIF", comment=b"seed")
    return pictures.gif(scene, transparent=True), pictures.gif(scene, frames=2), commented


def _webps() -> tuple[bytes, ...]:
    scene = _scene()
    return (
        pictures.webp(scene, orientation=6),
        pictures.webp(scene, mode="RGBA"),
        pictures.saved(scene, "WEBP", lossless=True),
        pictures.saved(scene, "WEBP", save_all=True, append_images=[scene.rotate(180)]),
    )


def _avifs() -> tuple[bytes, ...]:
    scene = _scene()
    return (
        pictures.avif(scene, orientation=6),
        pictures.avif(scene, mode="RGBA"),
        pictures.saved(scene, "AVIF", save_all=True, append_images=[scene.rotate(180)]),
    )


def _tiffs() -> tuple[bytes, ...]:
    scene = _scene()
    packed = ("raw", "tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate")
    return (
        pictures.tiff(scene, orientation=6),
        *(pictures.saved(scene, "TIFF", compression=one) for one in packed),
        *(
            pictures.saved(scene.convert("1"), "TIFF", compression=one)
            for one in ("group3", "group4")
        ),
        *(pictures.saved(scene.convert(mode), "TIFF") for mode in ("L", "P", "RGBA", "CMYK")),
        pictures.saved(scene.convert("I;16"), "TIFF"),
        pictures.saved(scene, "TIFF", save_all=True, append_images=[scene]),
    )


def _bmps() -> tuple[bytes, ...]:
    modes = [pictures.bmp(_scene(mode)) for mode in ("RGB", "RGBA", "L", "P", "1")]
    return (*modes, pictures.rle_bmp(WIDTH, HEIGHT))


def _heics() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((ROOT / "tests" / "heic").glob("*.heic")))


def _icons() -> tuple[bytes, ...]:
    png, bitmap = (_scene(mode) for mode in ("RGBA", "P"))
    size = {"sizes": [(WIDTH, HEIGHT)]}
    return (
        pictures.saved(png, "ICO", **size),
        pictures.saved(bitmap, "ICO", bitmap_format="bmp", **size),
    )


def _jpeg_2000s() -> tuple[bytes, ...]:
    scene = _scene()
    return (
        pictures.saved(scene, "JPEG2000"),
        pictures.saved(_scene("LA"), "JPEG2000", irreversible=True),
        pictures.saved(scene, "JPEG2000", no_jp2=True, tile_size=(16, 16)),
    )


def _jpeg_xls() -> tuple[bytes, ...]:
    encode = import_module("pylibjxl").encode
    scene = np.asarray(_scene())
    return encode(scene), encode(scene, lossless=True), encode(np.asarray(_scene("RGBA")))


def _raw_photos() -> tuple[bytes, ...]:
    preview = pictures.jpeg(_scene())
    return (
        raw_photo(preview, orientation=6, width=WIDTH, height=HEIGHT),
        raw_photo(preview, maker=b"NIKON", is_dng=False, width=WIDTH, height=HEIGHT),
    )


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"><defs><filter id="f">
<feGaussianBlur stdDeviation="0.1"/></filter><linearGradient id="g"><stop stop-color="red"/>
</linearGradient></defs><g filter="url(#f)"><rect width="2" height="1.5" fill="url(#g)"/></g>
<path d="M0 0C1 2 3 4 2 1Z" stroke="blue" stroke-width="0.1"/><text y="2" font-size="1">A</text>
</svg>"""

BUILDS: dict[str, Callable[[], tuple[bytes, ...]]] = {
    "JPEG": _jpegs,
    "PNG": _pngs,
    "GIF": _gifs,
    "WEBP": _webps,
    "AVIF": _avifs,
    "TIFF": _tiffs,
    "BMP": _bmps,
    "HEIC": _heics,
    "ICO": _icons,
    "JPEG2000": _jpeg_2000s,
    "PSD": lambda: (pictures.psd(WIDTH, HEIGHT),),
    "JXL": _jpeg_xls,
    "RAW": _raw_photos,
    "SVG": lambda: (SVG,),
    "PDF": lambda: (pictures.saved(_scene(), "PDF"), pictures.saved(_scene("L"), "PDF")),
}
"""Of formats in which one seed a mode is not enough, or that Pillow does not write."""

"""Small good pictures of each format, from which hostile ones are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from PIL import Image

from tests import pictures, profiles
from tests.fuzz.examination import TAKEN

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


BUILDS: dict[str, Callable[[], tuple[bytes, ...]]] = {
    "JPEG": _jpegs,
    "PNG": _pngs,
    "GIF": _gifs,
    "WEBP": _webps,
    "AVIF": _avifs,
    "TIFF": _tiffs,
    "BMP": _bmps,
    "PSD": lambda: (pictures.psd(WIDTH, HEIGHT),),
}
"""Of formats in which one seed a mode is not enough, or that Pillow does not write."""

"""The formats of originals: the one table of what a site may take, and by which decoder.

A file is recognised by its first bytes (`thumbnails.rendering.signatures`) and opened by the
decoder of that format alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of originals."""

    name: str
    """As THUMBNAIL_FORMATS names it, and as it is recorded; at most 8 characters."""
    label: str
    """What a file of it is, with its article, for messages."""
    endings: tuple[str, ...]
    """Of its files' names, for the choice of a file to be uploaded; what is in the file decides."""
    package: str = ""
    """The Python package that decodes it; empty for Pillow."""
    distribution: str = ""
    """The package's name for pip."""
    is_drawing: bool = False
    """It has no pixels of its own, and is drawn at the size that is needed."""
    is_default: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether its decoder's package is there; the package is not imported."""
        return not self.package or find_spec(self.package) is not None


# An explicit list: some of Pillow's formats run other programs (EPS), others hold no pictures, and
# every decoder adds to what a hostile file can attack.
_ALL = (
    Format(name="JPEG", label="a JPEG picture", endings=(".jpg", ".jpeg", ".jpe"), is_default=True),
    Format(name="PNG", label="a PNG picture", endings=(".png",), is_default=True),
    Format(name="GIF", label="a GIF picture", endings=(".gif",), is_default=True),
    Format(name="WEBP", label="a WebP picture", endings=(".webp",), is_default=True),
    Format(name="AVIF", label="an AVIF picture", endings=(".avif",), is_default=True),
    Format(name="TIFF", label="a TIFF picture", endings=(".tif", ".tiff"), is_default=True),
    Format(name="BMP", label="a BMP picture", endings=(".bmp",), is_default=True),
    Format(
        name="HEIC",
        label="a HEIC picture",
        endings=(".heic", ".heif", ".hif"),
        package="pi_heif",
        distribution="pi-heif",
        is_default=True,
    ),
    Format(name="ICO", label="a Windows icon", endings=(".ico",)),
    Format(name="JPEG2000", label="a JPEG 2000 picture", endings=(".jp2", ".jpx", ".j2k", ".jpc")),
    Format(name="PPM", label="a Netpbm picture", endings=(".ppm", ".pgm", ".pbm", ".pnm")),
    Format(name="PSD", label="a Photoshop document", endings=(".psd",)),
    # The last of Pillow's, since it has no signature.
    Format(name="TGA", label="a TGA picture", endings=(".tga",)),
    Format(
        name="JXL",
        label="a JPEG XL picture",
        endings=(".jxl",),
        package="pylibjxl",
        distribution="pylibjxl",
    ),
    Format(
        name="RAW",
        label="a RAW photo",
        endings=(
            *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef"),
            *(".raf", ".rw2", ".rwl", ".srw"),
        ),
        package="rawpy",
        distribution="rawpy",
    ),
    Format(
        name="SVG",
        label="an SVG drawing",
        endings=(".svg",),
        package="resvg_py",
        distribution="resvg-py",
        is_drawing=True,
    ),
    Format(
        name="PDF",
        label="a PDF document",
        endings=(".pdf",),
        package="pypdfium2",
        distribution="pypdfium2",
        is_drawing=True,
    ),
)

FORMATS = {format_.name: format_ for format_ in _ALL}
"""By name."""
DEFAULT_FORMATS = tuple(format_.name for format_ in _ALL if format_.is_default)
"""Names of what a site takes that says nothing else."""
DEFAULT = "DEFAULT"
"""Stands for all of DEFAULT_FORMATS in a list of names."""


def formats_named(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the formats of these names, in any case and order, in the table's order.

    Raises ValueError, which names what is unknown, or missing on this machine.
    """
    wanted = {name.strip().upper() for name in names}
    if DEFAULT in wanted:
        wanted = (wanted - {DEFAULT}).union(DEFAULT_FORMATS)
    unknown = wanted - FORMATS.keys()
    if unknown or not wanted:
        what = " and ".join(map(repr, sorted(unknown))) or "an empty list"
        known = ", ".join(FORMATS)
        raise ValueError(f"{what} names no format; there are {known}, and default")
    for format_ in _ALL:
        if format_.name in wanted and not format_.is_installed:
            raise ValueError(
                f"{format_.name} needs the package {format_.distribution}, which is not installed"
            )
    return tuple(name for name in FORMATS if name in wanted)


def listed(names: tuple[str, ...]) -> str:
    """Returns the names as a part of a sentence: `JPEG, PNG and GIF`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def endings_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the endings of these formats' files."""
    return tuple(ending for name in names for ending in FORMATS[name].endings)

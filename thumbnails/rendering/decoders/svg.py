"""SVG drawings, by resvg (resvg-py): at the size that is needed.

Links to other files, which resvg would open, are taken out. Text is shown in fonts of the system.
"""

import re
from io import BytesIO
from typing import BinaryIO
from xml.etree import ElementTree

import resvg_py
from PIL import Image

from thumbnails.exceptions import TooLarge, Unreadable
from thumbnails.rendering.decoders.deferred import DeferredImage
from thumbnails.rendering.decoders.drawings import drawn_size

BYTES_AT_MOST = 8 * 2**20
"""Its tree takes some twenty times as much memory."""

NAMESPACE = "{http://www.w3.org/2000/svg}"
LINKS = ("href", "{http://www.w3.org/1999/xlink}href")
DPI = 96
UNITS = {"": 1, "px": 1, "pt": DPI / 72, "pc": DPI / 6, "in": DPI, "cm": DPI / 2.54} | {
    "mm": DPI / 25.4,
    "em": 16,
    "ex": 8,
}
"""In pixels (CSS 2.2, 4.3.2), with the default size of text."""
DEFAULT_SIZE = (300.0, 150.0)
"""Of CSS, for what says nothing."""
LENGTH = re.compile(r"\s*(\+?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,2})?)\s*([a-z]*)\s*")


def open_image(file: BinaryIO, size_px: int | None = None) -> Image.Image:
    return SvgImage(file, size_px)


class SvgImage(DeferredImage):
    format = "SVG"

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101  for the type checker
        content = self.fp.read(BYTES_AT_MOST + 1)
        if len(content) > BYTES_AT_MOST:
            raise TooLarge(f"A drawing of more than {BYTES_AT_MOST // 2**20} MiB.")
        self._root = _parsed(content)
        self._natural = _size_of(self._root)
        self._size = drawn_size(*self._natural, self.size_px)
        self._mode = "RGBA"

    def decoded(self) -> Image.Image:
        has_text = any(element.tag == f"{NAMESPACE}text" for element in self._root.iter())
        if "viewBox" not in self._root.attrib:
            self._root.set("viewBox", "0 0 {:f} {:f}".format(*self._natural))
        self._root.set("width", str(self.width))
        self._root.set("height", str(self.height))
        try:
            png = resvg_py.svg_to_bytes(
                svg_string=ElementTree.tostring(self._root, "unicode"),
                skip_system_fonts=not has_text,
                dpi=DPI,
            )
        except BaseException as error:
            # Of Rust's panics; it is no Exception.
            if type(error).__name__ == "PanicException":
                raise Unreadable("The drawing cannot be drawn.") from None
            raise
        return Image.open(BytesIO(png), formats=["PNG"])


def _parsed(content: bytes) -> ElementTree.Element:
    """The drawing's tree, without links to anything outside of it.

    It is what resvg is given, so that no other way of reading the file can bring them back.
    """
    root = ElementTree.fromstring(content)  # noqa: S314  expat limits the growth of entities
    if root.tag != f"{NAMESPACE}svg":
        raise Unreadable("The file's root is not an SVG drawing.")
    for element in root.iter():
        for name in LINKS:
            link = element.get(name, "").strip()
            if not link.startswith("#") and not link.lower().startswith("data:"):
                element.attrib.pop(name, None)
    return root


def _size_of(root: ElementTree.Element) -> tuple[float, float]:
    """Width and height in pixels as at 100 %."""
    width, height = _length(root.get("width")), _length(root.get("height"))
    box = _view_box(root.get("viewBox", ""))
    ratio = box[0] / box[1] if box else None
    if width and height:
        return width, height
    if width:
        return width, width / ratio if ratio else DEFAULT_SIZE[1]
    if height:
        return height * ratio if ratio else DEFAULT_SIZE[0], height
    return box or DEFAULT_SIZE


def _length(text: str | None) -> float | None:
    """In pixels; None if there is none, or a part of what is around it."""
    match = LENGTH.fullmatch(text or "")
    if match is None or match[2] not in UNITS:
        return None
    return float(match[1]) * UNITS[match[2]] or None


def _view_box(text: str) -> tuple[float, float] | None:
    try:
        _, _, width, height = map(float, text.replace(",", " ").split())
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None

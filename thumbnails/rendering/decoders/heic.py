"""HEIC, by libheif (pi-heif): the primary picture, without thumbnails, depth maps and gain maps."""

from typing import Any, BinaryIO

import pi_heif
from PIL import Image

from thumbnails.exceptions import Unreadable
from thumbnails.rendering.decoders.boxes import boxes
from thumbnails.rendering.decoders.deferred import DeferredImage
from thumbnails.rendering.inspection import TURNED, UPRIGHT, orientation_of
from thumbnails.rendering.profiles import bt_2020, display_p3
from thumbnails.rendering.render import TRANSPOSITIONS

pi_heif.options.THUMBNAILS = False
pi_heif.options.DEPTH_IMAGES = False
pi_heif.options.AUX_IMAGES = False
pi_heif.options.DECODE_THREADS = 1  # there is a render process a core

WIDE_GAMUTS = {9: bt_2020, 12: display_p3}
"""By H.273's numbers of primaries."""
LIKE_SRGB = (1, 2, 6, 13, 14, 15)
"""H.273's numbers of transfer characteristics that are sRGB's, much like it or not said."""

Corners = tuple[int, int, int, int]
"""Of a picture: top left, top right, bottom left, bottom right."""

ORIENTATIONS: dict[Corners, int] = {
    (0, 1, 2, 3): 1,
    (1, 0, 3, 2): 2,
    (3, 2, 1, 0): 3,
    (2, 3, 0, 1): 4,
    (0, 2, 1, 3): 5,
    (2, 0, 3, 1): 6,
    (3, 1, 2, 0): 7,
    (1, 3, 0, 2): 8,
}
"""EXIF's orientation, by which of the stored corners is where once the picture is upright."""


def open_image(file: BinaryIO, size_px: int | None = None) -> Image.Image:
    return HeicImage(file)


class HeicImage(DeferredImage):
    """libheif applies the turning and mirroring of the container. EXIF's orientation repeats it in
    photos of phones, and counts only where the container has none."""

    format = "HEIC"

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101  for the type checker
        content = self.fp.read()
        check_items(content)
        self._heif = pi_heif.open_heif(content, remove_stride=False)
        self._size, self._mode = self._heif.size, self._heif.mode
        self.n_frames = len(self._heif)
        found = self._heif.info
        self.info = {
            key: found[key] for key in ("exif", "icc_profile", "bit_depth") if found.get(key)
        }
        if "icc_profile" not in self.info and (profile := _profile_of(found)) is not None:
            self.info["icc_profile"] = profile
        in_container = container_orientation(content)
        in_exif = orientation_of(self, self.getexif)
        self._by_exif = in_exif if in_container == UPRIGHT else UPRIGHT
        if self._by_exif in TURNED:
            self._size = self.height, self.width
        self.set_orientation(in_exif if in_container == UPRIGHT else in_container)

    def decoded(self) -> Image.Image:
        said = self._heif.size
        image: Image.Image = self._heif.to_pillow()
        if image.size != said:
            raise Unreadable("The picture has another size than its container says.")
        if self._by_exif != UPRIGHT:
            image = image.transpose(TRANSPOSITIONS[self._by_exif])
        return image


def _profile_of(info: dict[str, Any]) -> bytes | None:
    """The ICC profile of the colour space that numbers describe (ITU-T H.273); none for sRGB's and
    for unusual ones, and for brightness beyond white, which libheif leaves as it is."""
    nclx = info.get("nclx_profile") or {}
    profile_by = WIDE_GAMUTS.get(nclx.get("color_primaries", 0))
    if profile_by is None or nclx.get("transfer_characteristics") not in LIKE_SRGB:
        return None
    return profile_by()


def container_orientation(content: bytes) -> int:
    """Returns how the container's properties (ISO/IEC 23008-12, 6.5.10 and 6.5.12) turn and mirror
    the primary picture, as EXIF would say it."""
    found = _boxes_of_meta(content)
    properties = dict(boxes(content, *found[b"iprp"]))
    listed = list(boxes(content, *properties[b"ipco"]))
    begin, _ = found[b"pitm"]
    primary = int.from_bytes(content[begin + 4 : begin + (8 if content[begin] else 6)])
    corners: Corners = (0, 1, 2, 3)
    for number in _associations(content, properties[b"ipma"][0], primary):
        if 1 <= number <= len(listed):
            kind, (at, _) = listed[number - 1]
            corners = _turned(corners, kind, content[at])
    return ORIENTATIONS[corners]


def check_items(content: bytes) -> None:
    """Raises UnicodeDecodeError if the kind or name of an item is no text.

    pi-heif 1.4 dereferences a null pointer over one.
    """
    begin, end = _boxes_of_meta(content)[b"iinf"]
    for kind, (at, last) in boxes(content, begin + (8 if content[begin] else 6), end):
        if kind == b"infe":
            text = at + (10 if content[at] > 2 else 8)
            content[text : text + 4].decode("ascii")
            content[text + 4 : last].decode()


def _boxes_of_meta(content: bytes) -> dict[bytes, tuple[int, int]]:
    begin, end = dict(boxes(content, 0, len(content)))[b"meta"]
    return dict(boxes(content, begin + 4, end))


def _turned(corners: Corners, kind: bytes, value: int) -> Corners:
    one, two, three, four = corners
    if kind == b"imir":
        return (two, one, four, three) if value & 1 else (three, four, one, two)
    if kind == b"irot":
        for _ in range(value & 3):  # by 90 degrees anticlockwise
            one, two, three, four = two, four, one, three
    return one, two, three, four


def _associations(content: bytes, at: int, item: int) -> list[int]:
    """The numbers, from 1, of the item's properties in the order in which they are applied."""
    item_bytes = 4 if content[at] > 0 else 2
    number_bytes = 2 if content[at + 3] & 1 else 1
    count = int.from_bytes(content[at + 4 : at + 8])
    at += 8
    for _ in range(min(count, len(content))):
        found = int.from_bytes(content[at : at + item_bytes])
        number = content[at + item_bytes]
        at += item_bytes + 1
        if found == item:
            ends = range(at, at + number * number_bytes, number_bytes)
            essential = 1 << (8 * number_bytes - 1)
            numbers = (int.from_bytes(content[end : end + number_bytes]) for end in ends)
            return [number & ~essential for number in numbers]
        at += number * number_bytes
    return []

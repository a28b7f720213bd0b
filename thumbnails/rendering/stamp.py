"""The fingerprint inside a thumbnail: a JPEG comment segment (ITU-T T.81, B.2.4.5)."""

from dataclasses import dataclass

PREFIX = b"thumbnail "
MARKER, COMMENT, START_OF_SCAN = 0xFF, 0xFE, 0xDA
START_OF_FRAME = {0xC0, 0xC1, 0xC2}
"""Baseline, extended and progressive (T.81, table B.1): what every browser shows."""
START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"


def make_stamp(fingerprint: str) -> bytes:
    """Returns the comment to write into the JPEG."""
    return PREFIX + fingerprint.encode("ascii")


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a cached file's first segments and last two bytes say."""

    fingerprint: str | None
    """Its stamp; None if it has none."""
    is_whole: bool
    """Whether it has a JPEG's start and end markers, whatever is between them."""
    size_px: tuple[int, int] | None = None
    """Width and height, of a whole file without a stamp; None if its first segments lack them."""


def look_at(content: bytes) -> Stamped:
    """Read the segments before the image data and the last two bytes, without decoding."""
    is_whole = content.startswith(START_OF_IMAGE) and content.endswith(END_OF_IMAGE)
    position = len(START_OF_IMAGE)
    size_px = None
    while is_whole:
        if content[position] != MARKER:
            return Stamped(None, is_whole=False)
        marker = content[position + 1]
        if marker == START_OF_SCAN:
            break
        begin, length = position + 4, int.from_bytes(content[position + 2 : position + 4])
        position += 2 + length
        if length < 2 or position + 1 >= len(content):
            return Stamped(None, is_whole=False)
        if marker == COMMENT and content.startswith(PREFIX, begin):
            stamp = content[begin + len(PREFIX) : position]
            return Stamped(stamp.decode("ascii", errors="replace"), is_whole=True)
        if marker in START_OF_FRAME and length >= 7:
            height, width = content[begin + 1 : begin + 3], content[begin + 3 : begin + 5]
            size_px = int.from_bytes(width), int.from_bytes(height)
    return Stamped(None, is_whole=is_whole, size_px=size_px)


def read_stamp(content: bytes) -> str | None:
    """Returns the fingerprint in a thumbnail; None if it has none or is not whole."""
    return look_at(content).fingerprint

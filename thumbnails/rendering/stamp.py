"""What a thumbnail's segments say (ITU-T T.81, B.2), without decoding it.

The fingerprint is in a comment segment, the size in the frame header.
"""

from collections.abc import Iterator
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


def look_at(content: bytes) -> Stamped:
    """Read the segments before the image data and the last two bytes, without decoding."""
    if not content.startswith(START_OF_IMAGE) or not content.endswith(END_OF_IMAGE):
        return Stamped(None, is_whole=False)
    try:
        for marker, begin, end in _segments(content):
            if marker == COMMENT and content.startswith(PREFIX, begin):
                stamp = content[begin + len(PREFIX) : end]
                return Stamped(stamp.decode("ascii", errors="replace"), is_whole=True)
    except _Damaged:
        return Stamped(None, is_whole=False)
    return Stamped(None, is_whole=True)


def is_whole(content: bytes, suffix: str) -> bool:
    """Whether the file of a thumbnail or variant with this suffix ends where its format says."""
    if suffix.endswith(".webp"):  # one RIFF chunk (RFC 9649, 2.3), after its name and length
        return content.startswith(b"RIFF") and len(content) == 8 + int.from_bytes(
            content[4:8], "little"
        )
    if suffix.endswith(".avif"):
        return _is_whole_avif(content)
    return look_at(content).is_whole


def _is_whole_avif(content: bytes) -> bool:
    """Whether its boxes, each with its length and type in front (ISO/IEC 14496-12, 4.2), end with
    that of the pixels and fill it."""
    position, kind = 0, b""
    while position + 8 <= len(content):
        length = int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        if length < 8:
            return False
        position += length
    return kind == b"mdat" and position == len(content)


def read_stamp(content: bytes) -> str | None:
    """Returns the fingerprint in a thumbnail; None if it has none or is not whole."""
    return look_at(content).fingerprint


def read_size(content: bytes) -> tuple[int, int] | None:
    """Returns the width and height in pixels of a thumbnail; None if it is damaged."""
    try:
        for marker, begin, end in _segments(content):
            if marker in START_OF_FRAME and end - begin >= 5:
                # After the sample precision, of one byte.
                height = int.from_bytes(content[begin + 1 : begin + 3])
                width = int.from_bytes(content[begin + 3 : begin + 5])
                return (width, height) if width and height else None
    except _Damaged:
        return None
    return None


class _Damaged(Exception):
    pass


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields the marker of each segment before the image data, and where its content begins and
    ends. Raises _Damaged."""
    position = len(START_OF_IMAGE)
    while position + 1 < len(content) and content[position] == MARKER:
        marker = content[position + 1]
        if marker == START_OF_SCAN:
            return
        begin, length = position + 4, int.from_bytes(content[position + 2 : position + 4])
        position += 2 + length
        if length < 2 or position + 1 >= len(content):
            break
        yield marker, begin, position
    raise _Damaged

"""The fingerprint inside a thumbnail: a JPEG comment segment (ITU-T T.81, B.2.4.5)."""

from dataclasses import dataclass

PREFIX = b"thumbnail "
MARKER, COMMENT, START_OF_SCAN = 0xFF, 0xFE, 0xDA
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
    is_whole = content.startswith(START_OF_IMAGE) and content.endswith(END_OF_IMAGE)
    position = len(START_OF_IMAGE)
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
    return Stamped(None, is_whole=is_whole)


def read_stamp(content: bytes) -> str | None:
    """Returns the fingerprint in a thumbnail; None if it has none or is not whole."""
    return look_at(content).fingerprint

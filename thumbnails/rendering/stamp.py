"""The fingerprint inside a thumbnail: a JPEG comment segment (ITU-T T.81, B.2.4.5)."""

from typing import BinaryIO

PREFIX = b"thumbnail "
COMMENT, START_OF_SCAN = 0xFE, 0xDA
END_OF_IMAGE = b"\xff\xd9"


def make_stamp(fingerprint: str) -> bytes:
    """The comment to write into the JPEG."""
    return PREFIX + fingerprint.encode("ascii")


def read_stamp(file: BinaryIO) -> str | None:
    """The fingerprint in a thumbnail; None for a file that has none or is not whole.

    Reads the segments before the picture's data and the last two bytes, decodes nothing.
    """
    if file.read(2) != b"\xff\xd8":
        return None
    fingerprint = None
    while (head := file.read(4)) and len(head) == 4 and head[0] == 0xFF:
        marker, length = head[1], int.from_bytes(head[2:]) - 2
        if marker == START_OF_SCAN or length < 0:
            break
        content = file.read(length)
        if marker == COMMENT and content.startswith(PREFIX):
            fingerprint = content.removeprefix(PREFIX).decode("ascii", errors="replace")
    if fingerprint is None:
        return None
    file.seek(-len(END_OF_IMAGE), 2)
    return fingerprint if file.read() == END_OF_IMAGE else None

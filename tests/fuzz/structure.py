"""Where a file's parts and numbers are, so that a mutation means something to a decoder.

The parsers take damaged files too: they stop where nothing more can be understood.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["big", "little"]

PNG = b"\x89PNG\r\n\x1a\n"
BOXES_OF_BOXES = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"moov": 8, b"trak": 8, b"mdia": 8}
"""Boxes of ISO base media files that contain others, and where these begin."""
PARTS_AT_MOST = 500
"""What is deeper in a file is like what is ahead of it."""


@dataclass(frozen=True, slots=True)
class Number:
    position: int
    width: int
    """In bytes."""
    order: Order


@dataclass(slots=True)
class Structure:
    """Empty for a file that is not understood."""

    parts: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of what may be moved, repeated or left out: chunks, segments, boxes, tags."""
    numbers: list[Number] = field(default_factory=list)

    def add_numbers(self, order: Order, *places: tuple[int, int]) -> None:
        """Add numbers by their positions and widths."""
        self.numbers += [Number(position, width, order) for position, width in places]


def structure_of(data: bytes) -> Structure:
    """Returns the parts and numbers of a file."""
    found = Structure()
    for is_such, parse in PARSERS:
        if is_such(data):
            parse(data, found)
            break
    if not found.numbers:
        for order in ORDERS:
            places = ((position, width) for position in range(2, 48, 2) for width in (2, 4))
            found.add_numbers(order, *places)
    found.numbers = [one for one in found.numbers if one.position + one.width <= len(data)]
    found.parts = [(begin, end) for begin, end in found.parts if begin < end <= len(data)]
    return found


ORDERS: tuple[Order, Order] = ("big", "little")


def _png(data: bytes, found: Structure) -> None:
    for begin, end in _png_chunks(data):
        found.parts.append((begin, end))
        found.add_numbers("big", (begin, 4))
        if data[begin + 4 : begin + 8] in (b"IHDR", b"acTL", b"fcTL", b"pHYs"):
            found.add_numbers("big", *((place, 4) for place in range(begin + 8, end - 4, 4)))
            found.add_numbers("big", *((place, 1) for place in range(begin + 16, end - 4)))


def _png_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    begin = len(PNG)
    for _ in range(PARTS_AT_MOST):
        if begin + 12 > len(data):
            return
        end = begin + 12 + struct.unpack_from(">I", data, begin)[0]
        yield begin, min(end, len(data))
        begin = end


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG with the right checksum of each chunk, anything else as it is."""
    if not data.startswith(PNG):
        return data
    mended = bytearray(data)
    for begin, end in _png_chunks(data):
        if end - begin >= 12:
            mended[end - 4 : end] = struct.pack(">I", zlib.crc32(data[begin + 4 : end - 4]))
    return bytes(mended)


def _jpeg(data: bytes, found: Structure) -> None:
    begin = 2
    while begin + 4 <= len(data) and len(found.parts) < PARTS_AT_MOST:
        if data[begin] != 0xFF:
            begin = data.find(b"\xff", begin)
            if begin < 0:
                return
            continue
        marker = data[begin + 1]
        if marker in (0, 1, 0xFF) or 0xD0 <= marker <= 0xD9:
            begin += 1 if marker == 0xFF else 2
            continue
        end = begin + 2 + struct.unpack_from(">H", data, begin + 2)[0]
        found.parts.append((begin, end))
        found.add_numbers("big", (begin + 2, 2))
        if 0xC0 <= marker <= 0xCF or marker == 0xDA:
            places = [(place, 1) for place in range(begin + 4, min(end, begin + 24))]
            found.add_numbers("big", (begin + 5, 2), (begin + 7, 2), *places)
        if marker == 0xE1:
            _tiff(data, found, begin + 10)
        begin = end


def _riff(data: bytes, found: Structure) -> None:
    found.add_numbers("little", (4, 4))
    begin = 12
    while begin + 8 <= len(data) and len(found.parts) < PARTS_AT_MOST:
        size = struct.unpack_from("<I", data, begin + 4)[0]
        end = begin + 8 + size + size % 2
        found.parts.append((begin, min(end, len(data))))
        found.add_numbers("little", (begin + 4, 4))
        found.add_numbers("little", *((begin + 8 + place, 3) for place in range(0, 16, 3)))
        begin = end


def _boxes(data: bytes, found: Structure, begin: int = 0, until: int | None = None) -> None:
    until = len(data) if until is None else until
    while begin + 8 <= until and len(found.parts) < PARTS_AT_MOST:
        size, kind = struct.unpack_from(">I4s", data, begin)
        end = min(begin + max(size, 8), until)
        found.parts.append((begin, end))
        found.add_numbers("big", (begin, 4))
        if kind in BOXES_OF_BOXES:
            _boxes(data, found, begin + BOXES_OF_BOXES[kind], end)
        elif kind != b"mdat":
            places = range(begin + 8, min(end, begin + 72), 2)
            found.add_numbers("big", *((place, width) for place in places for width in (2, 4)))
        begin = end


def _tiff(data: bytes, found: Structure, start: int = 0) -> None:
    order: Order = "little" if data[start : start + 2] == b"II" else "big"
    sign = "<" if order == "little" else ">"
    if start + 8 > len(data):
        return
    found.add_numbers(order, (start + 4, 4))
    begin = start + struct.unpack_from(f"{sign}I", data, start + 4)[0]
    if begin + 2 > len(data):
        return
    found.add_numbers(order, (begin, 2))
    for number in range(min(struct.unpack_from(f"{sign}H", data, begin)[0], PARTS_AT_MOST)):
        tag = begin + 2 + 12 * number
        found.parts.append((tag, tag + 12))
        found.add_numbers(order, (tag, 2), (tag + 2, 2), (tag + 4, 4), (tag + 8, 2), (tag + 8, 4))
        if tag + 12 > len(data):
            return
        _, kind, count, value = struct.unpack_from(f"{sign}HHII", data, tag)
        if kind in (3, 4) and count > 1:  # offsets and sizes of strips, bits of samples
            width = 2 * (kind - 2)
            places = ((start + value + width * index, width) for index in range(min(count, 8)))
            found.add_numbers(order, *places)


def _gif(data: bytes, found: Structure) -> None:
    found.add_numbers("little", (6, 2), (8, 2), (10, 1))
    begin = 13 + (3 * 2 ** (data[10] % 8 + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    while begin < len(data) and len(found.parts) < PARTS_AT_MOST:
        if data[begin] == 0x21:
            end = begin + 2
        elif data[begin] == 0x2C:
            found.add_numbers("little", *((begin + place, 2) for place in (1, 3, 5, 7)))
            found.add_numbers("little", (begin + 9, 1), (begin + 10, 1))
            end = begin + 11
        else:
            return
        while end < len(data) and data[end]:
            found.add_numbers("little", (end, 1))
            end += 1 + data[end]
        found.parts.append((begin, min(end + 1, len(data))))
        begin = end + 1


PARSERS: list[tuple[Callable[[bytes], bool], Callable[[bytes, Structure], None]]] = [
    (lambda data: data.startswith(PNG), _png),
    (lambda data: data.startswith(b"\xff\xd8"), _jpeg),
    (lambda data: data.startswith(b"RIFF"), _riff),
    (lambda data: data.startswith((b"II*\0", b"MM\0*")), _tiff),
    (lambda data: data.startswith(b"GIF8"), _gif),
    (lambda data: data[4:8] in (b"ftyp", b"jP  ", b"JXL "), _boxes),
]
"""The first that recognises a file reads it."""

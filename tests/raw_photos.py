"""RAW photos for tests, made here: small DNGs with a preview."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from PIL import Image

from tests import pictures

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 10
SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, SIGNED_RATIONAL: 8}

Tags = dict[int, tuple[int, list[int] | bytes]]
"""Type and values by number."""


@dataclass
class _File:
    """A TIFF in Motorola's order that is written as it grows."""

    content: bytearray = field(default_factory=lambda: bytearray(b"MM\0*\0\0\0\0"))

    def add(self, data: bytes) -> int:
        """Where the data begin."""
        self.content += bytes(len(self.content) % 2)
        start = len(self.content)
        self.content += data
        return start

    def add_folder(self, tags: Tags) -> int:
        entries = b""
        for tag, (type_, values) in sorted(tags.items()):
            data = values if isinstance(values, bytes) else _packed(type_, values)
            count = len(data) // SIZES[type_]
            inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(">I", self.add(data))
            entries += struct.pack(">HHI", tag, type_, count) + inline
        return self.add(struct.pack(">H", len(tags)) + entries + bytes(4))


def _packed(type_: int, values: list[int]) -> bytes:
    letter = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SIGNED_RATIONAL: "i"}[type_]
    return struct.pack(f">{len(values)}{letter}", *values)


def raw_photo(
    preview: bytes | None = None,
    *,
    maker: bytes = b"Camera",
    orientation: int = 1,
    is_dng: bool = True,
    width: int = 320,
    height: int = 240,
) -> bytes:
    """A RAW photo whose first folder is a grey thumbnail of 16 × 12 pixels, with that JPEG as its
    preview and a sensor's data of that size."""
    file = _File()
    sensor = file.add(bytes(2 * width * height))
    folders = [
        file.add_folder(
            {
                254: (LONG, [0]),
                256: (LONG, [width]),
                257: (LONG, [height]),
                258: (SHORT, [16]),
                259: (SHORT, [1]),
                262: (SHORT, [32803]),  # a colour filter array
                273: (LONG, [sensor]),
                277: (SHORT, [1]),
                278: (LONG, [height]),
                279: (LONG, [2 * width * height]),
                33421: (SHORT, [2, 2]),
                33422: (BYTE, b"\0\1\1\2"),
            }
        )
    ]
    if preview is not None:
        size = pictures.opened(preview).size
        start = file.add(preview)
        folders.append(
            file.add_folder(
                {
                    254: (LONG, [1]),
                    256: (LONG, [size[0]]),
                    257: (LONG, [size[1]]),
                    258: (SHORT, [8, 8, 8]),
                    259: (SHORT, [7]),
                    262: (SHORT, [6]),
                    273: (LONG, [start]),
                    277: (SHORT, [3]),
                    278: (LONG, [size[1]]),
                    279: (LONG, [len(preview)]),
                }
            )
        )
    small = Image.new("RGB", (16, 12), "grey").tobytes()
    tags: Tags = {
        254: (LONG, [1]),
        256: (LONG, [16]),
        257: (LONG, [12]),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, [1]),
        262: (SHORT, [2]),
        271: (ASCII, maker + b"\0"),
        272: (ASCII, b"Model\0"),
        273: (LONG, [file.add(small)]),
        274: (SHORT, [orientation]),
        277: (SHORT, [3]),
        278: (LONG, [12]),
        279: (LONG, [len(small)]),
        330: (LONG, folders),
    }
    if is_dng:
        tags |= {
            50706: (BYTE, b"\1\4\0\0"),
            50708: (ASCII, b"Model\0"),
            50721: (SIGNED_RATIONAL, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        }
    first = file.add_folder(tags)
    file.content[4:8] = struct.pack(">I", first)
    return bytes(file.content)

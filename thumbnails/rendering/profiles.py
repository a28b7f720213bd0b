"""ICC colour profiles, built by hand (ICC.1:2022)."""

import struct

Vector = tuple[float, float, float]
Primaries = tuple[Vector, Vector, Vector]

WHITE: Vector = (0.9642, 1.0, 0.8249)
"""D50, which all profiles refer to."""
DISPLAY_P3: Primaries = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
"""Its primaries in XYZ, adapted to D50: the columns of the colour space's matrix."""


BT_2020: Primaries = (
    (0.67346, 0.27904, -0.00193),
    (0.16568, 0.67536, 0.02997),
    (0.12506, 0.04561, 0.79686),
)
"""Those of ITU-R BT.2020, likewise."""


def display_p3() -> bytes:
    """The wide gamut of phones: sRGB's (255, 0, 0) is its (234, 51, 35)."""
    return matrix_profile("Display P3", DISPLAY_P3)


def bt_2020() -> bytes:
    """The gamut of television in ultra high definition, with sRGB's curve."""
    return matrix_profile("BT.2020", BT_2020)


def matrix_profile(name: str, primaries: Primaries) -> bytes:
    """Red, green and blue with these primaries and sRGB's curve."""
    # IEC 61966-2-1 as a parametric curve of type 3.
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = struct.pack(">4s4xHxx5i", b"para", 3, *map(_fixed, parameters))
    tags = {}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[letter + b"XYZ"] = _xyz(primary)
        tags[letter + b"TRC"] = curve
    return profile(name, b"RGB ", b"mntr", b"XYZ ", tags)


def profile(
    name: str, space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]
) -> bytes:
    """A profile of this colour space, class and connection space, with these tags and its name."""
    tags = {b"desc": _text(name), b"cprt": _text("Public domain"), b"wtpt": _xyz(WHITE)} | tags
    directory = struct.pack(">I", len(tags))
    offset = 128 + 4 + 12 * len(tags)
    body = b""
    for tag, data in tags.items():
        directory += struct.pack(">4sII", tag, offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4xI4s4s4s12s4s28x12s",
        offset + len(body),
        0x04300000,
        kind,
        space,
        connection,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        struct.pack(">3i", *map(_fixed, WHITE)),
    )
    return header.ljust(128, b"\0") + directory + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII4sII", b"mluc", 1, 12, b"enUS", len(encoded), 28) + encoded


def _xyz(vector: Vector) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *map(_fixed, vector))


def _fixed(value: float) -> int:
    """ICC's s15Fixed16Number."""
    return round(value * 65_536)

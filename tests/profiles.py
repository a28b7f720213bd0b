"""ICC colour profiles for tests, built by hand (ICC.1:2022) so that their effect is known.

The visible ones change colours beyond doubt: who ignores the profile shows another colour.
"""

from __future__ import annotations

import struct
from itertools import product

Vector = tuple[float, float, float]

_WHITE: Vector = (0.9642, 1.0, 0.8249)  # D50, which all profiles refer to
# The primaries in XYZ, adapted to D50: the columns of each colour space's matrix.
_SRGB: tuple[Vector, Vector, Vector] = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)
_DISPLAY_P3: tuple[Vector, Vector, Vector] = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
_BLACK_INK_LAB, _RED_LAB, _PAPER_LAB = (0.0, 0.0, 0.0), (54.3, 80.8, 69.9), (100.0, 0.0, 0.0)


def display_p3() -> bytes:
    """The wide gamut of phones: sRGB's (255, 0, 0) is its (234, 51, 35)."""
    return _matrix_profile(_DISPLAY_P3)


def srgb() -> bytes:
    return _matrix_profile(_SRGB)


def rotated() -> bytes:
    """sRGB with other names for its primaries: (R, G, B) of it is sRGB's (B, R, G)."""
    red, green, blue = _SRGB
    return _matrix_profile((green, blue, red))


def linear_grey() -> bytes:
    """Grey that is proportional to light: its 55 is sRGB's 128."""
    linear = struct.pack(">4s4xI", b"curv", 0)
    return _profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": linear})


def red_cyan() -> bytes:
    """CMYK for a press whose cyan ink is red; its black is black, and the others leave no trace."""
    nodes = product((0, 1), repeat=4)
    colours = [
        _BLACK_INK_LAB if black else _RED_LAB if cyan else _PAPER_LAB
        for cyan, _magenta, _yellow, black in nodes
    ]
    as_it_is = bytes(range(256))
    identity = struct.pack(">9i", *(65_536 * (n % 4 == 0) for n in range(9)))
    table = (
        struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2)
        + identity
        + as_it_is * 4
        + b"".join(_lab(colour) for colour in colours)
        + as_it_is * 3
    )
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


def broken() -> bytes:
    """The first part of a profile."""
    return srgb()[:200]


def _matrix_profile(primaries: tuple[Vector, Vector, Vector]) -> bytes:
    # sRGB's curve (IEC 61966-2-1) as a parametric curve of type 3.
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = struct.pack(">4s4xHxx5i", b"para", 3, *map(_fixed, parameters))
    tags = {}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[letter + b"XYZ"] = _xyz(primary)
        tags[letter + b"TRC"] = curve
    return _profile(b"RGB ", b"mntr", b"XYZ ", tags)


def _profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": _text("made for a test"),
        b"cprt": _text("none"),
        b"wtpt": _xyz(_WHITE),
    } | tags
    directory = struct.pack(">I", len(tags))
    offset = 128 + 4 + 12 * len(tags)
    body = b""
    for name, data in tags.items():
        directory += struct.pack(">4sII", name, offset + len(body), len(data))
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
        struct.pack(">3i", *map(_fixed, _WHITE)),
    )
    return header.ljust(128, b"\0") + directory + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII4sII", b"mluc", 1, 12, b"enUS", len(encoded), 28) + encoded


def _xyz(vector: Vector) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *map(_fixed, vector))


def _lab(colour: Vector) -> bytes:
    lightness, a, b = colour
    return bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))


def _fixed(value: float) -> int:
    """ICC's s15Fixed16Number."""
    return round(value * 65_536)

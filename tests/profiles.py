"""ICC colour profiles for tests, whose effect is known.

They change colours visibly: a renderer that ignores the profile shows another colour.
"""

from __future__ import annotations

import struct
from itertools import product

from thumbnails.rendering.profiles import Primaries, Vector, matrix_profile, profile

# The primaries in XYZ, adapted to D50: the columns of the colour space's matrix.
SRGB: Primaries = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)
_BLACK_INK_LAB, _RED_LAB, _PAPER_LAB = (0.0, 0.0, 0.0), (54.3, 80.8, 69.9), (100.0, 0.0, 0.0)


def srgb() -> bytes:
    return matrix_profile("made for a test", SRGB)


def rotated() -> bytes:
    """sRGB with other names for its primaries: (R, G, B) of it is sRGB's (B, R, G)."""
    red, green, blue = SRGB
    return matrix_profile("made for a test", (green, blue, red))


def linear_grey() -> bytes:
    """Grey that is proportional to light: its 55 is sRGB's 128."""
    linear = struct.pack(">4s4xI", b"curv", 0)
    return profile("made for a test", b"GRAY", b"mntr", b"XYZ ", {b"kTRC": linear})


def red_cyan(ink_lab: Vector = _RED_LAB) -> bytes:
    """CMYK for a press whose cyan ink is red; its black is black, and the others leave no trace."""
    nodes = product((0, 1), repeat=4)
    colours = [
        _BLACK_INK_LAB if black else ink_lab if cyan else _PAPER_LAB
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
    return profile("made for a test", b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


def broken() -> bytes:
    """The first part of a profile."""
    return srgb()[:200]


def _lab(colour: Vector) -> bytes:
    lightness, a, b = colour
    return bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))

"""ThumbHash: a picture in some 24 bytes, for a placeholder while the picture loads.

The format is that of https://evanw.github.io/thumbhash/, for opaque pictures. Pure arithmetic on
some hundred numbers, without Pillow.
"""

import base64
import math
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import zip_longest
from operator import mul
from typing import NamedTuple

SAMPLES_PX = 16
"""The longer side of what is hashed; the highest frequency has seven half-waves."""
SHOWN_PX = 8
"""The longer side of what is shown: browsers interpolate when they enlarge it."""
FREQUENCIES = 7
SATURATION = 1.25
"""Quantizing takes colour away, which the format's decoder gives back."""
SIZE_BYTES_AT_MOST = 25

Channel = list[float]


# --- encoding ---------------------------------------------------------------------------------


def encode(width: int, height: int, rgb: bytes) -> bytes:
    """Returns the hash of a picture of up to SAMPLES_PX, given by rows in three bytes a pixel."""
    pixels = [tuple(value / 255 for value in rgb[i : i + 3]) for i in range(0, len(rgb), 3)]
    across, down = _frequencies(width, height)
    light = _transformed([sum(pixel) / 3 for pixel in pixels], width, max(3, across), max(3, down))
    yellow = _transformed([(r + g) / 2 - b for r, g, b in pixels], width, 3, 3)
    red = _transformed([r - g for r, g, _ in pixels], width, 3, 3)
    is_landscape = width > height
    head = (
        _rounded(63 * light.mean)
        | _rounded(31.5 + 31.5 * yellow.mean) << 6
        | _rounded(31.5 + 31.5 * red.mean) << 12
        | _rounded(31 * light.scale) << 18
        | (down if is_landscape else across) << 24
        | _rounded(63 * yellow.scale) << 27
        | _rounded(63 * red.scale) << 33
        | is_landscape << 39
    )
    nibbles = [_rounded(15 * wave) for wave in (*light.waves, *yellow.waves, *red.waves)]
    pairs = zip_longest(nibbles[::2], nibbles[1::2], fillvalue=0)
    return head.to_bytes(5, "little") + bytes(low | high << 4 for low, high in pairs)


def _frequencies(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    return (
        max(1, _rounded(FREQUENCIES * width / longer)),
        max(1, _rounded(FREQUENCIES * height / longer)),
    )


class _Transformed(NamedTuple):
    """A channel by its frequencies (a discrete cosine transform)."""

    mean: float
    scale: float
    """The amplitude of the largest wave."""
    waves: Channel
    """0 to 1: from the largest, negative, to the largest."""


def _transformed(values: Channel, width: int, across: int, down: int) -> _Transformed:
    height = len(values) // width
    cosines = [_cosines(frequency, width) for frequency in range(across)]
    rows = [
        [sum(map(mul, cosine, values[begin : begin + width])) for cosine in cosines]
        for begin in range(0, len(values), width)
    ]
    found = [
        sum(cosine * row[x] for cosine, row in zip(_cosines(y, height), rows, strict=True))
        / len(values)
        for x, y in _order(across, down)
    ]
    scale = max(map(abs, found))
    waves = [0.5 + 0.5 / scale * wave if scale else 0.0 for wave in found]
    return _Transformed(sum(values) / len(values), scale, waves)


@lru_cache(maxsize=512)
def _cosines(frequency: int, samples: int) -> tuple[float, ...]:
    return tuple(
        math.cos(math.pi / samples * frequency * (sample + 0.5)) for sample in range(samples)
    )


def _order(across: int, down: int) -> Iterator[tuple[int, int]]:
    """The waves' frequencies as the hash has them: a triangle without the mean."""
    for y in range(down):
        for x in range(0 if y else 1, across):
            if x * down < across * (down - y):
                yield x, y


def _rounded(number: float) -> int:
    """As JavaScript rounds: halves up."""
    return math.floor(number + 0.5)


# --- showing ----------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def placeholder_url(thumb_hash: str) -> str:
    """Returns the `data:` URL of a tiny PNG, by the hash in base64; empty if that is not one."""
    try:
        png = as_png(*decode(base64.b64decode(thumb_hash, validate=True)))
    except ValueError:
        return ""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def decode(content: bytes) -> tuple[int, int, bytes]:
    """Returns width, height and pixels, as for `encode`, of up to SHOWN_PX. Raises ValueError."""
    if not 5 < len(content) <= SIZE_BYTES_AT_MOST or content[2] & 0x80:
        raise ValueError("not the ThumbHash of an opaque picture")
    head = int.from_bytes(content[:5], "little")
    is_landscape = bool(head >> 39)
    shorter = max(1, head >> 24 & 7)
    across, down = (FREQUENCIES, shorter) if is_landscape else (shorter, FREQUENCIES)
    width, height = (max(1, _rounded(SHOWN_PX * each / FREQUENCIES)) for each in (across, down))
    nibbles = iter([nibble for byte in content[5:] for nibble in (byte & 15, byte >> 4)])

    def channel(across: int, down: int, mean: float, scale: float) -> Channel:
        waves = [(x, y, (next(nibbles, 8) / 7.5 - 1) * scale) for x, y in _order(across, down)]
        columns = list(zip(*(_cosines(x, width) for x in range(across)), strict=True))
        values: Channel = []
        for row in range(height):
            sums = [0.0] * across
            for x, y, wave in waves:
                sums[x] += 2 * wave * _cosines(y, height)[row]
            values += (mean + sum(map(mul, sums, column)) for column in columns)
        return values

    light = channel(max(3, across), max(3, down), (head & 63) / 63, (head >> 18 & 31) / 31)
    yellow = channel(3, 3, (head >> 6 & 63) / 31.5 - 1, (head >> 27 & 63) / 63 * SATURATION)
    red = channel(3, 3, (head >> 12 & 63) / 31.5 - 1, (head >> 33 & 63) / 63 * SATURATION)
    pixels = bytearray()
    for mean, difference, red_less_green in zip(light, yellow, red, strict=True):
        blue = mean - 2 / 3 * difference
        first = (3 * mean - blue + red_less_green) / 2
        for value in (first, first - red_less_green, blue):
            pixels.append(_rounded(255 * min(1.0, max(0.0, value))))
    return width, height, bytes(pixels)


def as_png(width: int, height: int, rgb: bytes) -> bytes:
    """Returns the picture as a PNG file (W3C PNG, 11.2)."""
    row = 3 * width
    lines = b"".join(b"\0" + rgb[begin : begin + row] for begin in range(0, len(rgb), row))
    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))
        for kind, data in chunks
    )

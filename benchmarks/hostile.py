"""Tiny files that are expensive to decode, and the resources that their process may use."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.meters import Peak, metered, peaks
from benchmarks.rendering import FINGERPRINT, RECIPE
from benchmarks.report import Row, Section
from thumbnails import conf
from thumbnails.exceptions import ThumbnailError
from thumbnails.rendering import Spool
from thumbnails.rendering.inspection import JPEG_SCANS
from thumbnails.rendering.pool import Limits, RenderPool

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MEBIBYTE = 2**20


# --- Pictures -----------------------------------------------------------------------------------


def slow_jpeg(pixels: int) -> bytes:
    """A black JPEG of as many scans as are taken, each of which goes through all of its pixels."""
    side = isqrt(pixels)
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last_scan = content[content.rindex(START_OF_SCAN) : -len(END_OF_IMAGE)]
    more = JPEG_SCANS - content.count(START_OF_SCAN)
    return content.removesuffix(END_OF_IMAGE) + more * last_scan + END_OF_IMAGE


def vast_webp(side: int) -> bytes:
    """A lossless WebP of one colour, whose pixels take no space."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=True)
    content = bytearray(file.getvalue())
    # After RIFF's header, the chunk's and a signature: 14 bits for each side, minus one.
    begin = 21
    (bits,) = struct.unpack_from("<I", content, begin)
    struct.pack_into("<I", content, begin, bits >> 28 << 28 | (side - 1) << 14 | (side - 1))
    return bytes(content)


def write_vast_png(path: Path, pixels: int) -> None:
    """Write a black RGB PNG, compressed line by line to save memory."""
    side = isqrt(pixels)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE + _chunk(b"IHDR", header))
        for part in _compressed(bytes(1 + 3 * side), side):
            file.write(_chunk(b"IDAT", part))
        file.write(_chunk(b"IEND", b""))


def _compressed(line: bytes, lines: int) -> Iterator[bytes]:
    packer = zlib.compressobj(1)
    for _ in range(lines):
        if part := packer.compress(line):
            yield part
    yield packer.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# --- Measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingCost:
    """What the render processes used for one image."""

    cpu_seconds: float
    peak: Peak
    end: str
    """How it ended, in a sentence."""


def measure(*, seconds: float) -> Section:
    """With the site's memory limit, and a time limit of `seconds` to be done sooner."""
    settings = conf.current()
    limits = Limits(seconds=seconds, memory_bytes=settings.render_memory_bytes)
    jpeg, webp = slow_jpeg(settings.max_pixels), vast_webp(isqrt(settings.max_pixels))
    slow = _cost(jpeg, limits, settings.max_pixels)
    vast = _cost(webp, limits, settings.max_pixels)
    memory = f"of {limits.memory_bytes // MEBIBYTE:,} MiB allowed"
    return Section(
        title=f"Tiny files of {settings.max_pixels // 10**6:,} megapixels",
        rows=[
            Row(
                key="hostile.jpeg_cpu_s",
                label=f"CPU for a JPEG of {len(jpeg) // 1000} kB, at {seconds:g} s a try",
                value=slow.cpu_seconds,
                unit="s",
                note=slow.end,
            ),
            Row(
                key="hostile.webp_address_mib",
                label=f"address space for a WebP of {len(webp)} bytes",
                value=vast.peak.address_bytes / MEBIBYTE,
                unit="MiB",
                digits=0,
                note=f"{memory}; {vast.peak.resident_bytes // MEBIBYTE:,} resident. {vast.end}",
            ),
            Row(
                key="hostile.webp_cpu_s",
                label="CPU for it",
                value=vast.cpu_seconds,
                unit="s",
            ),
        ],
    )


def _cost(picture: bytes, limits: Limits, max_pixels: int) -> DecodingCost:
    before = {child.pid for child in psutil.Process().children()}
    with (
        Spool.of(picture) as spool,
        RenderPool(1, limits) as pool,
        peaks(psutil.Process()) as found,
        metered(other_programs=True) as usage,
    ):
        try:
            pool.render(spool, RECIPE, name="tiny", fingerprint=FINGERPRINT, max_pixels=max_pixels)
            end = "It was rendered."
        except ThumbnailError as error:
            end = str(error)
    processes = [peak for pid, peak in found.items() if pid not in {os.getpid(), *before}]
    peak = Peak(
        resident_bytes=max((peak.resident_bytes for peak in processes), default=0),
        address_bytes=max((peak.address_bytes for peak in processes), default=0),
    )
    return DecodingCost(cpu_seconds=usage.cpu_seconds, peak=peak, end=end)

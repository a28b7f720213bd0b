"""The child process of a render pool: decodes one image at a time, and may crash on it.

Started by `thumbnails.rendering.pool` as `python -m thumbnails.rendering.process FD …`, where FD is
a Unix socket. It reads a request, which its parent has pickled, and the file that comes with it.
It answers in JSON and bytes, never in pickles, by which a compromised decoder could run code in
the parent.
"""

import gc
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from io import BufferedReader, FileIO
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any, BinaryIO

from PIL import Image

from thumbnails.exceptions import Crashed, ThumbnailError
from thumbnails.rendering import inspection
from thumbnails.rendering.compare import compare
from thumbnails.rendering.pixels import take_more_tiffs
from thumbnails.rendering.recipe import Recipe
from thumbnails.rendering.render import render

Answer = tuple[dict[str, Any], bytes]
Work = dict[str, Callable[..., Answer]]
"""By name."""

READY = b"ready"
OUT_OF_MEMORY = "out_of_memory"
SPARE_SECONDS = 5
"""The parent enforces the time limit; the process ends itself a little later if the parent died."""
HEADER_SECONDS = 1
"""Processor time for reading a header, a thousand times what a photo's takes; SIGPROF kills the
process after it. Unlike wall time it does not depend on the machine's load or the storage."""
HEADER_MEMORY_BYTES = 100 * 2**20
"""Address space for reading a header, beyond what the process has."""


def render_original(
    file: BinaryIO,
    *,
    recipe: Recipe,
    fingerprint: str,
    max_pixels: int,
    formats: tuple[str, ...],
    with_hash: bool,
    with_facts: bool,
    show_truncated: bool,
    cmyk_profile: bytes,
) -> Answer:
    """The thumbnail and its variants, its ThumbHash if `with_hash`, and the facts of the
    original's header if `with_facts`."""
    facts = None
    if with_facts:
        facts = inspection.inspect(file, max_pixels=max_pixels, formats=formats)
        file.seek(0)
    done = render(
        file,
        recipe,
        fingerprint=fingerprint,
        max_pixels=max_pixels,
        formats=formats,
        with_hash=with_hash,
        show_truncated=show_truncated,
        cmyk_profile=cmyk_profile,
    )
    files = [done, *done.variants.values()]
    found = {
        "files": [[file.width, file.height, len(file.content)] for file in files],
        "hash": done.thumb_hash,
        "note": done.note,
        "facts": facts and facts.as_dict(),
    }
    return found, b"".join(file.content for file in files)


def is_whole(file: BinaryIO, *, max_pixels: int) -> Answer:
    return {"whole": inspection.is_whole(file, max_pixels=max_pixels)}, b""


def compare_both(file: BinaryIO, *, old_bytes: int, max_pixels: int) -> Answer:
    """Compare the thumbnail in the file's first `old_bytes` bytes with the one in the rest."""
    found = compare(file.read(old_bytes), file.read(), max_pixels=max_pixels)
    return {"share": found.share, "pictured": found.picture is not None}, found.picture or b""


def inspect(file: BinaryIO, *, max_pixels: int, formats: tuple[str, ...]) -> Answer:
    reserved_bytes = inspection.prepare(file, formats)
    with _header_limits(reserved_bytes):
        return inspection.inspect(file, max_pixels=max_pixels, formats=formats).as_dict(), b""


@contextmanager
def _header_limits(reserved_bytes: int) -> Iterator[None]:
    """Raises Crashed for more than HEADER_MEMORY_BYTES, besides `reserved_bytes`; dies after
    HEADER_SECONDS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    lower = address_space_bytes() + HEADER_MEMORY_BYTES + reserved_bytes
    is_lower = lower < (sys.maxsize if soft == resource.RLIM_INFINITY else soft)
    signal.setitimer(signal.ITIMER_PROF, HEADER_SECONDS)
    try:
        if is_lower:
            resource.setrlimit(resource.RLIMIT_AS, (lower, hard))
        yield
    except MemoryError:
        if not is_lower:  # what earlier images have left may be the cause
            raise
        megabytes = HEADER_MEMORY_BYTES // 2**20
        raise Crashed(f"Reading its header takes more than {megabytes} MiB of memory.") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)


def address_space_bytes() -> int:
    """Of this process. Without /proc, as on macOS, more than any limit."""
    with suppress(OSError):
        pages, _, _ = os.pread(_statm(os.getpid()), 20, 0).partition(b" ")
        return int(pages) * resource.getpagesize()
    return sys.maxsize


@lru_cache(maxsize=1)
def _statm(_pid: int) -> int:
    """Of this process, not of one that it was forked from. It stays open: opening it takes as long
    as a tenth of a header."""
    return os.open("/proc/self/statm", os.O_RDONLY)


WORK: Work = {work.__name__: work for work in (render_original, is_whole, compare_both, inspect)}


def main(connection: Connection, *, seconds: float, memory_bytes: int, cmyk_profile: bytes) -> None:
    """Answer requests until the parent closes its end of the socket, or dies."""
    work = WORK | {"render_original": partial(render_original, cmyk_profile=cmyk_profile)}
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent handles them
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = None  # `open_image` enforces our own limit
    Image.init()
    take_more_tiffs()
    gc.freeze()
    with suppress(EOFError, ConnectionError):
        connection.send_bytes(READY)
        while _answer(connection, work, seconds=seconds):
            pass


def _answer(connection: Connection, work: Work, *, seconds: float) -> bool:
    """Serve one request. False if it ran out of memory: then this process has to end."""
    kind, name, options = connection.recv()
    with _opened(recv_handle(connection), name) as file:
        signal.setitimer(signal.ITIMER_REAL, seconds + SPARE_SECONDS)
        answer, content = _outcome(work[kind], options, file)
        signal.setitimer(signal.ITIMER_REAL, 0)
    _send(connection, json.dumps(answer).encode(), content)
    return answer.get("error") != OUT_OF_MEMORY


def _send(connection: Connection, *messages: bytes) -> None:
    """As `Connection.send_bytes`, but in one write, so that the parent wakes up once."""
    parts = (part for message in messages for part in (struct.pack("!i", len(message)), message))
    rest = memoryview(b"".join(parts))
    while rest:
        rest = rest[os.write(connection.fileno(), rest) :]


def _outcome(work: Callable[..., Answer], options: dict[str, Any], file: BinaryIO) -> Answer:
    try:
        return work(file, **options)
    except MemoryError:
        return {"error": OUT_OF_MEMORY}, b""
    except ThumbnailError as error:
        return {"error": error.reason.value, "message": str(error)}, b""


def _opened(handle: int, name: str) -> BinaryIO:
    raw = FileIO(handle)
    raw.name = name  # otherwise the descriptor's number
    file = BufferedReader(raw)
    file.seek(0)  # the position is shared with the parent, which wrote the file
    return file


if __name__ == "__main__":
    with _opened(int(sys.argv[4]), "the profile for CMYK") as profile:
        content = profile.read()
    main(
        Connection(int(sys.argv[1])),
        seconds=float(sys.argv[2]),
        memory_bytes=int(sys.argv[3]),
        cmyk_profile=content,
    )

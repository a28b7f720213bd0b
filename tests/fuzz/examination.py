"""What is wrong with what inspection and rendering make of a file."""

from __future__ import annotations

import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from thumbnails.exceptions import Crashed, ThumbnailError
from thumbnails.rendering import Facts, Recipe, Rendering, fit_inside, process, read_stamp
from thumbnails.rendering.formats import FORMATS
from thumbnails.rendering.inspection import TURNED
from thumbnails.rendering.render import render
from thumbnails.rendering.signatures import kind_of

RECIPE = Recipe(size_px=16)
"""Smaller than the seeds, so that they are scaled."""
STAMP = "0123456789abcdef"
TAKEN = tuple(name for name, format_ in FORMATS.items() if format_.is_installed)
MAX_PIXELS = 200_000_000
"""The default of THUMBNAIL_MAX_PIXELS."""
GREEDY, GREEDY_PIXELS = ("JPEG2000", "PSD"), 40_000_000
"""Formats whose decoders take so much memory a pixel that a site has to allow fewer."""


def prepare(memory_bytes: int) -> None:
    """Make this process like a render process, with that much memory beyond what it has."""
    Image.MAX_IMAGE_PIXELS = None
    Image.init()
    warnings.simplefilter("ignore")
    limit = process.address_space_bytes() + memory_bytes
    if limit < sys.maxsize:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of a file."""

    is_rendered: bool = False
    wrong: str = ""
    """In one line; empty if nothing is."""


def examine(data: bytes, *, seconds: float) -> Examination:
    """Inspect and render a file.

    One that takes longer than `seconds` of processor time, or four times as long by the clock,
    kills the process by SIGPROF or SIGALRM.
    """
    try:
        with _killed_after(seconds):
            facts = _attempt("inspection", lambda: _inspected(BytesIO(data)))
        with _killed_after(seconds):
            rendering = _attempt("rendering", lambda: _rendered(BytesIO(data)))
            if not isinstance(rendering, Rendering):
                return Examination()
            _check(rendering)
            _compare(facts, rendering)
    except _Wrong as wrong:
        return Examination(wrong=str(wrong))
    return Examination(is_rendered=True)


class _Wrong(Exception):
    """The message is the finding."""


@contextmanager
def _killed_after(seconds: float) -> Iterator[None]:
    # Reading a header sets the timer of processor time to a limit of its own.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 4 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _inspected(file: BinaryIO) -> Facts:
    answer, _ = process.inspect(file, max_pixels=_max_pixels(file), formats=TAKEN)
    return Facts(**answer)


def _rendered(file: BinaryIO) -> Rendering:
    return render(
        file,
        RECIPE,
        fingerprint=STAMP,
        max_pixels=_max_pixels(file),
        formats=TAKEN,
        with_hash=True,
        show_truncated=True,
    )


def _max_pixels(file: BinaryIO) -> int:
    return GREEDY_PIXELS if kind_of(file).format in GREEDY else MAX_PIXELS


def _attempt(what: str, act: Callable[[], Facts | Rendering]) -> Facts | Rendering | ThumbnailError:
    try:
        return act()
    except Crashed as error:
        raise _Wrong(f"{what}: {error}") from None
    except ThumbnailError as error:
        return error
    except MemoryError:
        raise _Wrong(f"{what} takes more memory than it may") from None
    except Exception as error:  # noqa: BLE001  that it may be any is the finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise _Wrong(f"{what} raises {type(error).__name__} at {place}: {error}"[:300]) from None


def _check(rendering: Rendering) -> None:
    """Whether the thumbnail is a JPEG of its size that decodes, with its stamp."""
    try:
        image = Image.open(BytesIO(rendering.content), formats=["JPEG"])
        image.load()
    except OSError as error:
        raise _Wrong(f"the thumbnail cannot be decoded: {error}") from None
    if image.size != (rendering.width, rendering.height):
        raise _Wrong(f"the thumbnail is said to be {rendering.width} × {rendering.height} wrongly")
    if max(image.size) > RECIPE.size_px:
        raise _Wrong("the thumbnail is larger than its recipe's size")
    if read_stamp(rendering.content) != STAMP:
        raise _Wrong("the thumbnail has no stamp")
    if set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "comment"}:
        raise _Wrong(f"the thumbnail has metadata: {', '.join(map(str, image.info))}")


def _compare(facts: Facts | Rendering | ThumbnailError, rendering: Rendering) -> None:
    """Whether inspection told the size of what was rendered."""
    if not isinstance(facts, Facts):
        raise _Wrong(f"inspection refuses what is rendered: {facts}")
    size = facts.width, facts.height
    upright = size[::-1] if facts.orientation in TURNED else size
    if fit_inside(*upright, RECIPE.size_px) != (rendering.width, rendering.height):
        raise _Wrong(
            f"a {facts.format} of orientation {facts.orientation} is inspected as "
            f"{size[0]} × {size[1]} and rendered as {rendering.width} × {rendering.height}"
        )

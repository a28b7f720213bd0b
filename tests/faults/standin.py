"""In the site's processes under test: a decoder that can be slow, crash or hang, and a full disk.

`tests.faults.settings` brings them in.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from unittest.mock import patch

from django.apps import AppConfig

from tests.faults.switchboard import Poison, Step, Switchboard
from thumbnails import rendering
from thumbnails.cache.storage import ThumbnailStorage
from thumbnails.rendering import Recipe, Rendering


class StandIn(AppConfig):
    """Puts `render` below in the place of the real one."""

    name = "tests.faults"
    label = "faults"

    def ready(self) -> None:
        patch("thumbnails.upkeep.freshness.render", render).start()


def render(file: BinaryIO, recipe: Recipe, *, fingerprint: str, max_pixels: int) -> Rendering:
    """The real one, with what the switchboard says in front of it."""
    switchboard = Switchboard.of_environment()
    picture = Path(file.name).name
    switchboard.note(Step.BEGIN, picture)
    switchboard.wait(picture)
    match switchboard.poison_of(picture):
        case Poison.SEGFAULT:
            ctypes.string_at(0)
        case Poison.HANG:
            _hang()
        case None:
            pass
    done = rendering.render(file, recipe, fingerprint=fingerprint, max_pixels=max_pixels)
    switchboard.note(Step.END, picture)
    return done


def _hang() -> None:
    """As C code does that never comes back: no other thread of the process runs meanwhile."""
    libc = ctypes.PyDLL(None)  # unlike CDLL keeps the GIL
    while True:
        libc.sleep(1_000_000)


class QuotaStorage(ThumbnailStorage):
    """The thumbnails' storage on a disk that has room for so many bytes.

    The disk is the folder around the cache's, and all that lies in it counts.
    """

    def __init__(self, *, quota_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._quota_bytes = quota_bytes

    def _create(self, path: Path) -> IO[bytes]:
        super()._create(path).close()
        room = self._quota_bytes - _bytes_below(Path(self.location).parent)
        return cast("IO[bytes]", _Limited(path, room))


class _Limited(FileIO):
    def __init__(self, path: Path, room_bytes: int) -> None:
        super().__init__(path, "wb")
        self._room_bytes = room_bytes

    def write(self, data: Any, /) -> int:
        content = bytes(data)
        # A real disk as well takes what it can before it says that it is full.
        written = super().write(content[: max(0, self._room_bytes)])
        self._room_bytes -= written
        if written < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


def _bytes_below(folder: Path) -> int:
    size_bytes = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # other processes replace and delete files
                size_bytes += (Path(here) / name).stat().st_size
    return size_bytes

"""In the site's processes under test: a full disk.

`tests.faults.settings` brings it in.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any, cast

from thumbnails.storage.thumbnails import ThumbnailStorage


class QuotaStorage(ThumbnailStorage):
    """The thumbnails' storage on a disk that has room for so many bytes.

    The disk is the folder around the cache's, and all that lies in it counts.
    """

    def __init__(self, *, quota_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._quota_bytes = quota_bytes

    def _create(self, name: str, opened: int) -> IO[bytes]:
        with super()._create(name, opened) as file:
            descriptor = os.dup(file.fileno())
        room = self._quota_bytes - _bytes_below(Path(self.location).parent)
        return cast("IO[bytes]", _Limited(descriptor, room))


class _Limited(FileIO):
    def __init__(self, descriptor: int, room_bytes: int) -> None:
        super().__init__(descriptor, "wb")
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

"""Files to import: opened once, inspected and copied through that one descriptor.

The owner of a folder may replace its contents during the import, also a checked file by another
one.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thumbnails.exceptions import SourceMissing, StorageFailure, Unsupported
from thumbnails.storage import originals
from thumbnails.storage.errors import Absent, translated, translated_writing
from thumbnails.storage.folders import make_folders
from thumbnails.storage.links import FILE, open_within

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PIECE_BYTES = 2**20
PART_NAME = re.compile(r"\.import-[0-9a-f]{16}\.part")
"""An incomplete copy: its import is running, or died."""


class Source:
    """An open regular file, as it was when it was opened."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Unsupported("Not a regular file.")
        self.size_bytes = found.st_size
        self.version = originals.version_from(found)
        self._modified_ns = found.st_mtime_ns

    def fileno(self) -> int:
        return self._fd

    @property
    def modified_at(self) -> float:
        """Seconds since 1970."""
        return self._modified_ns / 1e9

    def read(self) -> bytes:
        """Returns the whole content. Raises StorageFailure if the file changes meanwhile."""
        with translated(f"{self._path.name} cannot be read"):
            content = os.pread(self._fd, self.size_bytes, 0)
        self.check_unchanged()
        return content

    def check_unchanged(self) -> None:
        """Raises StorageFailure if the file has changed since it was opened."""
        if originals.version_from(os.fstat(self._fd)) != self.version:
            raise StorageFailure(
                f"{self._path.name} changes while it is read; import it again once it is complete."
            )

    def copy_to(self, target: Path) -> None:
        """Make or replace an original: bytes and modification time, nothing else.

        File and folders get the modes of the originals' storage. Raises StorageFailure, also if
        the file changes meanwhile; then nothing is copied.
        """
        file_mode, folder_mode = originals.modes()
        part = target.with_name(f".import-{secrets.token_hex(8)}.part")
        with translated_writing(f"{self._path.name} cannot be copied"):
            make_folders(target.parent, folder_mode)
            try:
                self._write(part, file_mode)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def _write(self, part: Path, mode: int) -> None:
        with os.fdopen(os.open(part, NEW, 0o600), "wb") as copy:
            # By offset: the render process that inspected it shares the descriptor's position.
            copied = 0
            while piece := os.pread(self._fd, min(PIECE_BYTES, self.size_bytes - copied), copied):
                copied += copy.write(piece)
            copy.flush()
            self.check_unchanged()
            os.fchmod(copy.fileno(), mode)
            # Part of the source version, by which the next import sees whether the file changed.
            os.utime(copy.fileno(), ns=(self._modified_ns, self._modified_ns))


@contextmanager
def opened(path: Path, *, within: Path | None) -> Iterator[Source]:
    """Yields the open file.

    A link is followed if its target is at or below `within`, a resolved path; None follows every
    link. Raises SourceMissing, Unsupported for a link that leads out and for anything but a
    regular file, and StorageFailure if it cannot be opened.
    """
    try:
        with translated(f"{path.name} cannot be read"):
            fd = os.open(path, FILE) if within is None else open_within(path, within)
    except Absent as error:
        raise SourceMissing(f"{path.name} is gone.") from error
    try:
        yield Source(fd, path)
    finally:
        os.close(fd)

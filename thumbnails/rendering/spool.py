"""An original's bytes between the thread that reads them and the process that decodes them."""

import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO, Self

KEPT_BYTES = 16 * 2**20
KEPT_SPOOLS = 8

_kept: list[int] = []


class Spool(AbstractContextManager["Spool"]):
    """An anonymous file, in memory where the system supports that (Linux).

    An original is read into it before it is decoded, so that a hanging storage is not blamed on
    the image; a render process gets the descriptor. Spools of ordinary size are reused with their
    memory: filling a new one costs three times as much.
    """

    def __init__(self) -> None:
        try:
            self._fd = _kept.pop()
        except IndexError:
            self._fd = _new_file()
        self.size_bytes = 0

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Returns a spool with these bytes."""
        spool = cls()
        spool.write([content])
        return spool

    def write(self, parts: Iterable[bytes]) -> None:
        """Append these bytes."""
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = os.pwrite(self._fd, rest, self.size_bytes)
                self.size_bytes += written
                rest = rest[written:]

    def copy_from(self, file: int, size_bytes: int) -> None:
        """Append the first `size_bytes` bytes of an open file."""
        if sys.platform != "linux":  # elsewhere sendfile supports sockets only
            self.write([os.pread(file, size_bytes, 0)])
            return
        os.lseek(self._fd, self.size_bytes, os.SEEK_SET)
        copied = 0
        while copied < size_bytes:
            number = os.sendfile(self._fd, file, copied, size_bytes - copied)
            if number == 0:
                break
            copied += number
        self.size_bytes += copied

    def clear(self) -> None:
        """Empty it for reuse."""
        self.size_bytes = 0

    def fileno(self) -> int:
        """Returns the descriptor, truncated to what was written: no rest of an earlier original."""
        os.ftruncate(self._fd, self.size_bytes)
        return self._fd

    def detach(self) -> BinaryIO:
        """Returns it as a file that the caller closes; the spool itself is of no use any more."""
        fd, self._fd = self.fileno(), -1
        file = os.fdopen(fd, "rb")
        file.seek(0)
        return file

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if os.fstat(fd).st_size <= KEPT_BYTES and len(_kept) < KEPT_SPOOLS:
            _kept.append(fd)
        else:
            os.close(fd)

    def __exit__(self, *_: object) -> None:
        self.close()


def _new_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("original")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

"""One render at a time per thumbnail, across threads and processes of a host."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.files.storage import FileSystemStorage

from thumbnails.cache.storage import storage

LOCKS = 1024
"""Lock files that all assets share: two assets rarely meet, and no file is left per asset."""


@contextmanager
def flight(asset_id: int) -> Iterator[None]:
    """Waits until nobody else on this host is inside for the same asset.

    The kernel holds the lock and drops it with its process, however that ends: there is nothing
    to expire and nothing to clean up. Whoever waited looks again whether there is anything left
    to do. Where no lock file can be made the work is done without: at worst twice.
    """
    file = _open_lock(asset_id % LOCKS)
    try:
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        if file is not None:
            os.close(file)


def _open_lock(number: int) -> int | None:
    path = _folder() / f"{number:03x}"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)
    except OSError:
        return None


def _folder() -> Path:
    """The same for all who share a cache: hidden inside it, or in the temporary folder."""
    store = storage()
    if isinstance(store, FileSystemStorage):
        return Path(store.location) / ".locks"
    return Path(tempfile.gettempdir()) / f"thumbnail-locks-{os.getuid()}"

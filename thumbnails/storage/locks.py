"""One render at a time per thumbnail, across the threads and processes of a host."""

import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from thumbnails.storage import cache_folder
from thumbnails.storage.thumbnails import LOCKS_FOLDER, ThumbnailStorage, storage

LOOK_SECONDS = 0.01
"""Poll interval; the kernel's own blocking lock has no timeout."""
FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _LockFile:
    """An open file of which each byte is the lock of the asset with that id.

    The kernel releases a lock when its process ends, however it ends: nothing has to expire or to
    be cleaned up, and no asset needs a file of its own. It releases all locks of a process that
    closes the file anywhere, so the file is opened once.
    """

    def __init__(self, name: str, opened: int) -> None:
        self.fd = os.open(name, FLAGS, 0o600, dir_fd=opened)
        try:
            found = cache_folder.keep_private(self.fd)
        except BaseException:
            os.close(self.fd)
            raise
        self.identity = (found.st_dev, found.st_ino)

    def acquire(self, asset_id: int) -> bool:
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, asset_id)
        except OSError:
            return False
        return True

    def release(self, asset_id: int) -> None:
        with suppress(OSError):
            fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, asset_id)


_guard = threading.Lock()
_held: set[int] = set()
"""Ids locked by threads of this process: the kernel's locks are per process."""
_file: _LockFile | None = None


def _forget() -> None:
    """After a fork: the child does not inherit its parent's locks."""
    global _file, _guard  # noqa: PLW0603
    _guard = threading.Lock()
    _held.clear()
    _file = None


os.register_at_fork(after_in_child=_forget)


@contextmanager
def render_lock(asset_id: int, *, patience_seconds: float) -> Iterator[bool]:
    """Wait until no other thread or process of this host holds the asset's lock, and hold it.

    Yields False if the lock is still taken after that time. If no lock file can be made, only the
    threads of this process exclude each other: at worst another process does the work as well.
    May be exited in another thread than it was entered in.
    """
    give_up_at = time.monotonic() + patience_seconds
    while not (taken := _acquire(asset_id)):
        if time.monotonic() > give_up_at:
            yield False
            return
        time.sleep(LOOK_SECONDS)
    try:
        yield True
    finally:
        with _guard:
            _held.discard(asset_id)
            if (file := taken[0]) is not None:
                file.release(asset_id)


def _acquire(asset_id: int) -> tuple[_LockFile | None] | None:
    """A tuple of the file that has the lock, if there is one; None if the lock is taken."""
    with _guard:
        if asset_id in _held:
            return None
        file = _current_file()
        if file is not None and not file.acquire(asset_id):
            return None
        _held.add(asset_id)
        return (file,)


def _current_file() -> _LockFile | None:
    """The lock file, opened again if it was replaced: the cache may be deleted at any time."""
    for location, inside, name in _places():
        try:
            try:
                return _file_in(location, inside, name)
            except FileNotFoundError:  # the folder does not exist
                cache_folder.make(location, inside, mode=0o700)
                return _file_in(location, inside, name)
        except OSError:
            continue
    return None


def _file_in(location: str, inside: str, name: str) -> _LockFile:
    global _file  # noqa: PLW0603
    with cache_folder.opened(location, inside) as opened:
        identity = None
        with suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=opened, follow_symlinks=False)
            identity = (found.st_dev, found.st_ino)
        if _file is None or identity != _file.identity:
            # The old one stays open: locks in it may be held.
            _file = _LockFile(name, opened)
    return _file


def _places() -> Iterator[tuple[str, str, str]]:
    """Location, subfolder and name of the lock file, the same for all processes of a cache.

    In the cache's `.locks` or, if that cannot be used, in a private folder of the user below the
    temporary folder.
    """
    store = storage()
    name = "object-storage"
    if isinstance(store, ThumbnailStorage):
        yield store.directory, LOCKS_FOLDER, "renders"
        name = hashlib.sha256(os.fsencode(store.directory)).hexdigest()[:16]
    yield str(Path(tempfile.gettempdir()) / f"thumbnail-locks-{os.geteuid()}"), "", name

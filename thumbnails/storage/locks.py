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

from thumbnails.storage import folder
from thumbnails.storage.thumbnails import LOCKS_FOLDER, ThumbnailStorage, storage

LOOK_SECONDS = 0.01
"""How often the lock is tried again. The kernel's own waiting has no time limit."""
FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _LockFile:
    """An open file of which each byte is the lock of the asset with that id.

    The kernel holds a lock and drops it with its process, however that ends: there is nothing to
    expire, nothing to clean up, and no file for each asset. It drops all of a process's locks
    when that closes the file anywhere, so the file is opened once.
    """

    def __init__(self, name: str, opened: int) -> None:
        self.fd = os.open(name, FLAGS, 0o600, dir_fd=opened)
        try:
            found = folder.keep_private(self.fd)
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
"""The ids that threads of this process have locked: the kernel's locks are the process's."""
_file: _LockFile | None = None


def _forget() -> None:
    """After a fork: the parent keeps its locks, and the child has none."""
    global _file, _guard  # noqa: PLW0603
    _guard = threading.Lock()
    _held.clear()
    _file = None


os.register_at_fork(after_in_child=_forget)


@contextmanager
def render_lock(asset_id: int, *, patience_seconds: float) -> Iterator[bool]:
    """Waits until no other thread or process of this host is inside for the same asset.

    Yields False if the lock is still taken after that time. Where no lock file can be made, only
    this process's own threads are kept apart: another process does the work twice at worst.
    May be left in another thread than it was entered in.
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
        _release(asset_id, taken[0])


def _acquire(asset_id: int) -> tuple[_LockFile | None] | None:
    """The file that the lock is in, if there is one; None where the lock is taken."""
    with _guard:
        if asset_id in _held:
            return None
        file = _current_file()
        if file is not None and not file.acquire(asset_id):
            return None
        _held.add(asset_id)
        return (file,)


def _release(asset_id: int, file: _LockFile | None) -> None:
    with _guard:
        _held.discard(asset_id)
        if file is not None:
            file.release(asset_id)


def _current_file() -> _LockFile | None:
    """The lock file, opened anew where another one lies there now: a cache may be removed."""
    global _file  # noqa: PLW0603
    for location, inside, name in _places():
        try:
            folder.make(location, inside, mode=0o700)
            with folder.opened(location, inside) as opened:
                if _file is None or _identity(name, opened) != _file.identity:
                    # The old one stays open: locks in it may be held.
                    _file = _LockFile(name, opened)
        except OSError:
            continue
        else:
            return _file
    return None


def _identity(name: str, opened: int) -> tuple[int, int] | None:
    try:
        found = os.stat(name, dir_fd=opened, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _places() -> Iterator[tuple[str, str, str]]:
    """Location, folder inside and name of the lock file, the same for all who share a cache.

    Hidden inside it or, where that cannot be used, in a folder of the user's own in the temporary
    folder.
    """
    store = storage()
    name = "object-storage"
    if isinstance(store, ThumbnailStorage):
        yield store.directory, LOCKS_FOLDER, "renders"
        name = hashlib.sha256(os.fsencode(store.directory)).hexdigest()[:16]
    yield str(Path(tempfile.gettempdir()) / f"thumbnail-locks-{os.geteuid()}"), "", name

"""One render at a time per thumbnail, across threads and processes of a host."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.core.files.storage import FileSystemStorage

from thumbnails import conf
from thumbnails.cache.storage import LOCKS_FOLDER, storage

LOCKS = 1024
"""Lock files that all assets share: two assets rarely meet, and no file is left per asset."""
LOOK_SECONDS = 0.01
"""How often somebody who waits looks again. The kernel's own waiting has no time limit."""


@contextmanager
def flight(asset_id: int) -> Iterator[bool]:
    """Waits until nobody else on this host is inside for the same asset.

    The kernel holds the lock and drops it with its process, however that ends: there is nothing
    to expire and nothing to clean up. Whoever waited looks again whether there is anything left
    to do. Gives False where somebody else is inside for longer than a picture may take, and
    seems to hang. Where no lock file can be made the work is done without: at worst twice.
    """
    file = _open_lock(asset_id % LOCKS)
    try:
        yield file is None or _locked(file, patience_seconds=conf.current().render_seconds)
    finally:
        if file is not None:
            os.close(file)


def _locked(file: int, *, patience_seconds: float) -> bool:
    give_up_at = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(LOOK_SECONDS)
        else:
            return True


@contextmanager
def marked(attempt: str) -> Iterator[None]:
    """Leaves a mark if the process dies inside, for `deaths` to count. Only within `flight`.

    `attempt` names what is tried, such as an asset's id and the fingerprint of its thumbnail.

    A picture that kills its decoder takes the process along, which can tell nobody any more: the
    mark was made before.
    """
    mark = _mark(attempt)
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with mark.open("ab") as file:
            file.write(b"x")
    except OSError:
        pass  # no mark can be made, as on a full disk: then nothing is counted
    try:
        yield
    finally:
        forget_deaths(attempt)


def deaths(attempt: str) -> int:
    """How often in a row a process died over that. Only within `flight`."""
    try:
        return _mark(attempt).stat().st_size
    except OSError:
        return 0


def forget_deaths(attempt: str) -> None:
    with suppress(OSError):
        _mark(attempt).unlink(missing_ok=True)


def _mark(attempt: str) -> Path:
    return _folder() / "marks" / attempt


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
        return Path(store.location) / LOCKS_FOLDER
    return Path(tempfile.gettempdir()) / f"thumbnail-locks-{os.getuid()}"

"""The originals' storage (`STORAGES["originals"]`); rendering never writes to it."""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.core.files.storage import FileSystemStorage, Storage, storages

from thumbnails import conf
from thumbnails.exceptions import SourceMissing, StorageFailure, TooLarge
from thumbnails.rendering import Spool
from thumbnails.storage.deadlines import within
from thumbnails.storage.errors import Absent, translated

PLACE = "originals"
FILE_MODE, FOLDER_MODE = 0o640, 0o750
TRIES = 5
"""How often an original that changes meanwhile is read."""
YOUNG_SECONDS = 0.02
"""Linux takes modification times from a clock that ticks every 4 to 10 ms: a file as recent as
this may be written again without a new time."""


@dataclass(frozen=True, slots=True)
class Original:
    """An original as it was read."""

    version: str
    spool: Spool


def storage() -> Storage:
    return storages["originals"]


def folders() -> dict[str, Path]:
    store = storage()
    return {"": Path(store.location).resolve()} if isinstance(store, FileSystemStorage) else {}


def name_of(path: Path, known: Mapping[str, Path] | None = None) -> str | None:
    for root, folder in (folders() if known is None else known).items():
        if path.is_relative_to(folder):
            name = path.relative_to(folder).as_posix()
            return f"{root}/{name}" if root else name
    return None


def is_folder(name: str) -> bool:
    """Whether there is a folder of that name instead of a file; False if that cannot be told."""
    with suppress(OSError, NotImplementedError):
        return stat.S_ISDIR(os.stat(storage().path(name)).st_mode)  # noqa: PTH116
    return False


def modes() -> tuple[int, int]:
    """The modes of an original's file and of its folders, in a storage on disk.

    They are the storage's own or Django's FILE_UPLOAD_PERMISSIONS and
    FILE_UPLOAD_DIRECTORY_PERMISSIONS. By default other users of the machine cannot read them.
    """
    store = storage()
    file_mode = getattr(store, "file_permissions_mode", None)
    folder_mode = getattr(store, "directory_permissions_mode", None)
    return file_mode or FILE_MODE, folder_mode or FOLDER_MODE


def source_version(name: str, *, patience_seconds: float | None = None) -> str:
    """Identifies the original's bytes without reading them: `{bytes}-{microseconds since 1970}`.

    Size and modification time, as in rsync's quick check. Raises SourceMissing, or StorageFailure
    if the storage fails or does not answer in that time, by default THUMBNAIL_RENDER_SECONDS.
    """
    seconds = patience_seconds or conf.current().render_seconds
    with _translated(name):
        return within(seconds, partial(_version_in, storage(), name), place=PLACE)


@contextmanager
def read(name: str) -> Iterator[Original]:
    """Yields the original's bytes and their version.

    Raises as `source_version`, and TooLarge for a file of more than THUMBNAIL_MAX_BYTES.
    """
    settings = conf.current()
    with _translated(name):
        original = within(
            settings.render_seconds,
            partial(_read, storage(), name, settings.max_bytes),
            place=PLACE,
            discard=lambda late: late.spool.close(),
        )
    with original.spool:
        yield original


def _read(store: Storage, name: str, max_bytes: int) -> Original:
    """Read it again if it changes meanwhile, up to TRIES times."""
    spool = Spool()
    try:
        for _ in range(TRIES):
            spool.clear()
            version = (
                _copy_file(store.path(name), spool, max_bytes)
                if isinstance(store, FileSystemStorage)
                else _copy_object(store, name, spool, max_bytes)
            )
            if version is not None:
                return Original(version, spool)
            time.sleep(YOUNG_SECONDS)
    except BaseException:
        spool.close()
        raise
    spool.close()
    raise StorageFailure(f"The original {name} cannot be read: it changes all the time.")


def _copy_file(path: str, spool: Spool, max_bytes: int) -> str | None:
    """The version of what was copied; None if it changed meanwhile, or may have."""
    # O_NONBLOCK: opening a pipe would wait for its other end.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(file)
        if not stat.S_ISREG(before.st_mode):
            raise StorageFailure("The original cannot be read: it is not a regular file.")
        check_size(before.st_size, max_bytes)
        spool.copy_from(file, before.st_size)
        after = os.fstat(file)
    finally:
        os.close(file)
    if version_from(before) != version_from(after) or spool.size_bytes != after.st_size:
        return None
    return None if 0 <= time.time() - after.st_mtime < YOUNG_SECONDS else version_from(after)


def _copy_object(store: Storage, name: str, spool: Spool, max_bytes: int) -> str | None:
    before = _version_in(store, name)
    check_size(store.size(name), max_bytes)
    with store.open(name, "rb") as file:
        spool.write(file.chunks())
    return before if _version_in(store, name) == before else None


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Raises TooLarge."""
    if size_bytes > max_bytes:
        raise TooLarge(f"{size_bytes:,} bytes are more than the {max_bytes:,} allowed.")


def _version_in(store: Storage, name: str) -> str:
    if isinstance(store, FileSystemStorage):
        return version_from(os.stat(store.path(name)))  # noqa: PTH116  faster than pathlib
    modified = store.get_modified_time(name).timestamp()
    return f"{store.size(name)}-{int(modified * 1e6)}"


def version_from(found: os.stat_result) -> str:
    """The source version of a file with this status."""
    return f"{found.st_size}-{found.st_mtime_ns // 1000}"


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        with translated(f"The original {name} cannot be read"):
            yield
    except Absent as error:
        raise SourceMissing(f"The original {name} is gone.") from error

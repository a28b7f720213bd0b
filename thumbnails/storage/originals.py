"""The originals' storage (`STORAGES["originals"]`); rendering never writes to it.

It may have several roots, each with timeouts of its own: see `thumbnails.storage.roots`. The
storages of tracked fields are roots as well: see `thumbnails.storage.tracked`.
"""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.core.files.storage import Storage, storages

from thumbnails import conf
from thumbnails.exceptions import SourceMissing, StorageFailure, ThumbnailError, TooLarge
from thumbnails.rendering import Spool
from thumbnails.storage import tracked
from thumbnails.storage.deadlines import within
from thumbnails.storage.errors import Absent, translated
from thumbnails.storage.links import FILE, open_within
from thumbnails.storage.roots import (
    PLACE,
    Located,
    OriginalsStorage,
    located_in,
    resolved_folder,
)

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


def locate(name: str) -> Located:
    """Returns where the original of that name is.

    Raises SuspiciousFileOperation for a name that leads out of its root.
    """
    root, _, rest = name.partition("/")
    if (of_field := tracked.storage_of(root)) is not None:
        return located_in(root, of_field, rest, is_tracked=True)
    store = storage()
    return store.locate(name) if isinstance(store, OriginalsStorage) else Located("", store, name)


def locate_tracked(name: str) -> Located | None:
    """Returns where the original of a tracked field is; None for any other original.

    Raises SourceMissing for a name that leads out of its root.
    """
    with _translated(name):
        located = locate(name)
        return located if located.is_tracked else None


def configured_roots() -> list[str]:
    """Returns the names of the roots beside the main folder, without those of tracked fields."""
    store = storage()
    return list(store.roots) if isinstance(store, OriginalsStorage) else []


def roots() -> list[str]:
    """Returns the names of all roots beside the main folder."""
    return [*configured_roots(), *tracked.roots()]


def root_of(name: str) -> str:
    """Returns the name of the root that the original is in; empty for the main folder."""
    root = name.partition("/")[0]
    return root if root in roots() else ""


def folders() -> dict[str, Path]:
    """Returns the folders of the roots that are on disk, with links resolved; the main folder is
    under "". Without those whose disk hangs, and without the roots of tracked fields, whose
    originals are not imported by path."""
    store = storage()
    if isinstance(store, OriginalsStorage):
        return store.folders()
    main = resolved_folder(store, place=PLACE)
    return {} if main is None else {"": main}


def name_of(path: Path, known: Mapping[str, Path] | None = None) -> str | None:
    """Returns the original's name of an absolute path without links; None if it is below no root
    on disk. `known` are the `folders()`, for callers that ask for many names."""
    for root, folder in (folders() if known is None else known).items():
        if path.is_relative_to(folder):
            name = path.relative_to(folder).as_posix()
            return f"{root}/{name}" if root else name
    return None


def is_folder(name: str) -> bool:
    """Whether there is a folder of that name instead of a file; False if that cannot be told."""
    with suppress(ThumbnailError, OSError, NotImplementedError):
        located = locate(name)
        path = located.storage.path(located.name)
        found = partial(os.path.isdir, path)
        return within(conf.current().render_seconds, found, place=located.place)
    return False


def check_roots() -> None:
    """To be called at the start of a process.

    Raises ImproperlyConfigured, with a remedy, if the folders of two roots are not separate, or
    if the main folder has originals that a root hides. An unavailable disk does not prevent the
    start.
    """
    store = storage()
    if isinstance(store, OriginalsStorage) and store.roots:
        store.check(cache=resolved_folder(storages["thumbnails"], place="thumbnails"))


def modes() -> tuple[int, int]:
    """The modes of an original's file and of its folders, in a storage on disk.

    They are the storage's own or Django's FILE_UPLOAD_PERMISSIONS and
    FILE_UPLOAD_DIRECTORY_PERMISSIONS. By default other users of the machine cannot read them.
    """
    store = locate("").storage
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
        located = locate(name)
        return within(seconds, partial(_version_in, located), place=located.place)


@contextmanager
def read(name: str) -> Iterator[Original]:
    """Yields the original's bytes and their version.

    Raises as `source_version`, TooLarge for a file of more than THUMBNAIL_MAX_BYTES, and
    Unsupported for a link that leads out of a root.
    """
    settings = conf.current()
    with _translated(name):
        located = locate(name)
        original = within(
            settings.render_seconds,
            partial(_read, located, name, settings.max_bytes),
            place=located.place,
            discard=lambda late: late.spool.close(),
        )
    with original.spool:
        yield original


def _read(located: Located, name: str, max_bytes: int) -> Original:
    """Read it again if it changes meanwhile, up to TRIES times."""
    copy = _copy_object if located.folder is None else _copy_file
    spool = Spool()
    try:
        for _ in range(TRIES):
            spool.clear()
            version = copy(located, spool, max_bytes)
            if version is not None:
                return Original(version, spool)
            time.sleep(YOUNG_SECONDS)
    except BaseException:
        spool.close()
        raise
    spool.close()
    raise StorageFailure(f"The original {name} cannot be read: it changes all the time.")


def _copy_file(located: Located, spool: Spool, max_bytes: int) -> str | None:
    """The version of what was copied; None if it changed meanwhile, or may have."""
    file = _opened(located)
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


def _opened(located: Located) -> int:
    with located.told_from_away():
        if located.root and not located.is_tracked and located.folder is not None:
            # Others than the site may write to a root: no link of theirs may lead to an image
            # that is not theirs.
            folder = Path(located.folder).resolve()
            return open_within(folder / located.name, folder)
        path = located.storage.path(located.name)
        return os.open(path, FILE)


def _copy_object(located: Located, spool: Spool, max_bytes: int) -> str | None:
    before = _version_in(located)
    check_size(located.storage.size(located.name), max_bytes)
    with located.storage.open(located.name, "rb") as file:
        spool.write(file.chunks())
    return before if _version_in(located) == before else None


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Raises TooLarge."""
    if size_bytes > max_bytes:
        raise TooLarge(f"{size_bytes:,} bytes are more than the {max_bytes:,} allowed.")


def _version_in(located: Located) -> str:
    if located.folder is not None:
        with located.told_from_away():
            path = located.storage.path(located.name)
            return version_from(os.stat(path))  # noqa: PTH116  faster than pathlib
    modified = located.storage.get_modified_time(located.name).timestamp()
    return f"{located.storage.size(located.name)}-{int(modified * 1e6)}"


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

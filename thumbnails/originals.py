"""The originals' storage (`STORAGES["originals"]`), read and never written to by rendering."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.storage import FileSystemStorage, Storage, storages

from thumbnails.exceptions import SourceMissing, StorageFailure


def storage() -> Storage:
    return storages["originals"]


def source_version(name: str) -> str:
    """What identifies the original's bytes without reading them: size and modification time.

    That is rsync's quick check: `{bytes}-{microseconds since 1970}`. Raises SourceMissing, or
    StorageFailure where the storage errs.
    """
    with _translated_errors(name):
        store = storage()
        if isinstance(store, FileSystemStorage):
            return _version_of_file(store.path(name))
        modified = store.get_modified_time(name).timestamp()
        return _version(store.size(name), int(modified * 1e6))


def version_of(path: Path) -> str:
    """The version that a file will have as an original, wherever it lies now."""
    with _translated_errors(path.name):
        return _version_of_file(path)


def _version_of_file(path: str | Path) -> str:
    found = Path(path).stat()
    return _version(found.st_size, found.st_mtime_ns // 1000)


def _version(size_bytes: int, modified_microseconds: int) -> str:
    return f"{size_bytes}-{modified_microseconds}"


def are_all_gone() -> bool:
    """The storage's folder is missing or empty, as that of a disk which is not mounted is."""
    store = storage()
    if not isinstance(store, FileSystemStorage):
        return False
    try:
        return next(Path(store.location).iterdir(), None) is None
    except OSError:
        return True


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """The original for reading. Raises as `source_version` does."""
    with _translated_errors(name):
        file = storage().open(name, "rb")
    with file:
        yield cast(BinaryIO, file.file)


@contextmanager
def _translated_errors(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceMissing(f"The original {name} is gone.") from error
    except OSError as error:
        raise StorageFailure(f"The original {name} cannot be read: {error.strerror}.") from error

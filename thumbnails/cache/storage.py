"""The cache's storage (`STORAGES["thumbnails"]`): whole files or none."""

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages

from thumbnails.cache.layout import SHARDS, asset_id_of
from thumbnails.exceptions import StorageFailure

TEMPORARY_SUFFIX = ".tmp"


class ThumbnailStorage(FileSystemStorage):
    """Files on disk that are replaced atomically: a reader sees the old bytes or the new ones."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """The name itself: a thumbnail replaces the one that was there."""
        return name

    def _save(self, name: str, content: "File[Any]") -> str:
        target = Path(self.path(name))
        # Hidden and beside its target: on the same file system, so that the rename is atomic,
        # and never taken for a thumbnail.
        temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            with self._create(temporary) as file:
                for part in content.chunks():
                    file.write(part)
                file.flush()
                # Without it a power cut may leave the new name on a file of 0 bytes.
                os.fsync(file.fileno())
            if self.file_permissions_mode is not None:
                temporary.chmod(self.file_permissions_mode)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return name

    def _create(self, path: Path) -> IO[bytes]:
        try:
            return path.open("xb")
        except FileNotFoundError:  # the shard is new, or somebody just removed it
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A thumbnail found in the cache."""

    name: str
    asset_id: int
    size_bytes: int


def storage() -> Storage:
    return storages["thumbnails"]


def write(name: str, content: bytes) -> None:
    """Put a thumbnail into the cache, in place of the old one. Raises StorageFailure."""
    try:
        storage().save(name, ContentFile(content))
    except OSError as error:
        raise _failure("written", name, error) from error


def open_file(name: str) -> "File[Any] | None":
    """The thumbnail for reading; None where there is none. Raises StorageFailure."""
    try:
        return storage().open(name, "rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failure("read", name, error) from error


def read(name: str) -> bytes | None:
    """The thumbnail's bytes; None where there is none. Raises StorageFailure."""
    file = open_file(name)
    if file is None:
        return None
    try:
        with file:
            return bytes(file.read())
    except OSError as error:
        raise _failure("read", name, error) from error


def size_bytes(name: str) -> int | None:
    """The file's size; None where there is none. Raises StorageFailure."""
    try:
        return storage().size(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failure("read", name, error) from error


def modified_at(name: str) -> datetime | None:
    """When the file was written; None where there is none. Raises StorageFailure."""
    try:
        return storage().get_modified_time(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failure("read", name, error) from error


def delete(name: str) -> None:
    """Remove a thumbnail; one that is not there is no error. Raises StorageFailure."""
    try:
        storage().delete(name)
    except OSError as error:
        raise _failure("deleted", name, error) from error


def walk(shard: str) -> Iterator[CachedFile]:
    """The thumbnails of one shard; other files are passed over. Raises StorageFailure."""
    if shard not in SHARDS:
        raise ValueError(f"{shard!r} is no shard")
    store = storage()
    try:
        if isinstance(store, FileSystemStorage):
            yield from _walk_disk(store, shard)
        else:
            yield from _walk_any(store, shard)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _failure("listed", shard, error) from error


def _walk_disk(store: FileSystemStorage, shard: str) -> Iterator[CachedFile]:
    with os.scandir(store.path(shard)) as entries:
        for entry in entries:
            name = f"{shard}/{entry.name}"
            asset_id = asset_id_of(name)
            if asset_id is None or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield CachedFile(name, asset_id, entry.stat(follow_symlinks=False).st_size)


def _walk_any(store: Storage, shard: str) -> Iterator[CachedFile]:
    for base in store.listdir(shard)[1]:
        name = f"{shard}/{base}"
        asset_id = asset_id_of(name)
        if asset_id is not None:
            yield CachedFile(name, asset_id, store.size(name))


def _failure(what: str, name: str, error: OSError) -> StorageFailure:
    return StorageFailure(f"The thumbnail {name} cannot be {what}: {error.strerror or error}.")

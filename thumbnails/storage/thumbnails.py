"""The cache's storage (`STORAGES["thumbnails"]`): whole files or none."""

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages

from thumbnails import conf
from thumbnails.exceptions import StorageFailure
from thumbnails.rendering import look_at, read_stamp
from thumbnails.storage.deadlines import within
from thumbnails.storage.errors import Absent, translated, translated_writing
from thumbnails.storage.folders import make_folders
from thumbnails.storage.names import SHARDS, asset_id_of

T = TypeVar("T")

TEMPORARY_NAME = re.compile(r"\.(?P<thumbnail>[0-9]+\.jpg)\.[0-9a-f]{16}\.tmp")
LOCKS_FOLDER = ".locks"
OURS = {*SHARDS, LOCKS_FOLDER}
"""What may lie in the cache's folder."""


class ThumbnailStorage(FileSystemStorage):
    """Files on disk that are replaced atomically: a reader sees the old bytes or the new ones."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """The name itself: a thumbnail replaces the one that was there."""
        return name

    def _save(self, name: str, content: "File[Any]") -> str:
        target = Path(self.path(name))
        # Hidden and beside its target: on the same file system, so that the rename is atomic,
        # and never taken for a thumbnail.
        temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
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
            make_folders(path.parent, folder_mode(self))
            return path.open("xb")


class Kind(StrEnum):
    """What a file in the cache's folder is, by its name and nature."""

    THUMBNAIL = "thumbnail"
    TEMPORARY = "temporary"
    """Half of a thumbnail: its writer is at work on it, or died."""
    FOREIGN = "foreign"
    """None of ours: other names, folders and links. Never touched."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file found in the cache's folder."""

    name: str
    kind: Kind
    asset_id: int = 0
    """Of a thumbnail."""
    size_bytes: int = 0


def folder_mode(store: Storage) -> int:
    """The mode of the cache's folders: the storage's own, else one that lets web servers in."""
    return getattr(store, "directory_permissions_mode", None) or 0o755


def storage() -> Storage:
    return storages["thumbnails"]


@dataclass(frozen=True, slots=True)
class Cached:
    """A thumbnail's file as it was read."""

    content: bytes
    modified_at: float
    """Seconds since 1970."""

    @property
    def stamp(self) -> str | None:
        """None for one that has none or is not whole."""
        return read_stamp(self.content)

    @property
    def is_whole(self) -> bool:
        """It has a JPEG's beginning and its end."""
        return look_at(self.content).is_whole


def write(name: str, content: bytes) -> None:
    """Put a thumbnail into the cache, in place of the old one. Raises StorageFailure."""
    with translated_writing(f"The thumbnail {name} cannot be written"):
        _within_limit(lambda: storage().save(name, ContentFile(content)))


def read(name: str) -> bytes | None:
    """The thumbnail's bytes; None where there is none. Raises StorageFailure."""
    found = load(name)
    return None if found is None else found.content


def load(name: str) -> Cached | None:
    """The thumbnail's file; None where there is none. Raises StorageFailure.

    From a local disk at once: a hit's cost is here. Other storages have a limit of time.
    """
    try:
        with _translated("read", name):
            if (path := path_on_disk(name)) is not None:
                return _load_file(path)
            return _within_limit(partial(_load_object, name))
    except Absent:
        return None


def _load_file(path: str) -> Cached:
    # Not to wait for the other end of a pipe that lies in a thumbnail's place.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise Absent
        content = os.read(file, found.st_size + 1)
        while len(content) < found.st_size and (more := os.read(file, found.st_size)):
            content += more
    finally:
        os.close(file)
    return Cached(content, found.st_mtime)


def _load_object(name: str) -> Cached:
    store = storage()
    with store.open(name, "rb") as file:
        return Cached(bytes(file.read()), store.get_modified_time(name).timestamp())


def size_bytes(name: str) -> int | None:
    """The file's size; None where there is none. Raises StorageFailure."""
    try:
        with _translated("read", name):
            if (path := path_on_disk(name)) is not None:
                return os.stat(path).st_size  # noqa: PTH116
            return _within_limit(lambda: storage().size(name))
    except Absent:
        return None


def modified_at(name: str) -> datetime | None:
    """When the file was written; None where there is none. Raises StorageFailure."""
    try:
        with _translated("read", name):
            return _within_limit(lambda: storage().get_modified_time(name))
    except Absent:
        return None


def delete(name: str) -> None:
    """Remove a thumbnail; one that is not there is no error. Raises StorageFailure."""
    with suppress(Absent), _translated("deleted", name):
        _within_limit(lambda: storage().delete(name))


def _within_limit(act: Callable[[], T]) -> T:
    return within(conf.current().render_seconds, act, place="thumbnails")


def walk(shard: str) -> Iterator[CachedFile]:
    """The thumbnails of one shard. Raises StorageFailure."""
    return (file for file in survey(shard) if file.kind == Kind.THUMBNAIL)


def survey(shard: str) -> Iterator[CachedFile]:
    """Everything that lies in one shard; links are not followed. Raises StorageFailure."""
    if shard not in SHARDS:
        raise ValueError(f"{shard!r} is not a shard")
    store = storage()
    with suppress(Absent), translated(f"The shard {shard} cannot be listed"):
        if isinstance(store, FileSystemStorage):
            yield from _survey_disk(Path(store.path(shard)), shard)
        else:
            for base in _within_limit(lambda: store.listdir(shard))[1]:
                name = f"{shard}/{base}"
                yield _file(name, _within_limit(partial(store.size, name)))


def check_reachable() -> None:
    """Raises StorageFailure where the cache cannot be read, or its folder not be written to."""
    size_bytes(f"{SHARDS[0]}/0.jpg")
    store = storage()
    if isinstance(store, FileSystemStorage):
        folder = existing_folder(Path(store.location))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StorageFailure("The cache's folder cannot be written to.")


def existing_folder(path: Path) -> Path:
    """The folder or, before the first thumbnail, the nearest one above it: on the same disk."""
    while not path.exists():
        path = path.parent
    return path


def foreign_beside_shards() -> list[CachedFile]:
    """What lies in the cache's folder and is no shard. Raises StorageFailure."""
    store = storage()
    if not isinstance(store, FileSystemStorage):
        return []
    with (
        suppress(Absent),
        translated("The cache's folder cannot be listed"),
        os.scandir(store.location) as entries,
    ):
        return [
            CachedFile(entry.name, Kind.FOREIGN)
            for entry in entries
            if entry.name not in OURS or entry.is_symlink()
        ]
    return []


def _survey_disk(folder: Path, shard: str) -> Iterator[CachedFile]:
    if folder.is_symlink():  # it may lead anywhere
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{shard}/{entry.name}"
            if not entry.is_file(follow_symlinks=False):
                yield CachedFile(name, Kind.FOREIGN)
                continue
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield _file(name, entry.stat(follow_symlinks=False).st_size)


def _file(name: str, size_bytes: int) -> CachedFile:
    asset_id = asset_id_of(name)
    if asset_id is not None:
        return CachedFile(name, Kind.THUMBNAIL, asset_id, size_bytes)
    return CachedFile(name, Kind.TEMPORARY if _is_temporary(name) else Kind.FOREIGN)


def _is_temporary(name: str) -> bool:
    """As `ThumbnailStorage` names its own: `.12345.jpg.0123456789abcdef.tmp`."""
    shard, _, base = name.partition("/")
    match = TEMPORARY_NAME.fullmatch(base)
    return match is not None and asset_id_of(f"{shard}/{match['thumbnail']}") is not None


def path_on_disk(name: str) -> str | None:
    """Where the file lies, for names that the layout made; None for a storage without paths.

    Django's own `path` guards against names from outside and costs more than opening the file.
    """
    store = storage()
    return f"{store.location}/{name}" if isinstance(store, FileSystemStorage) else None


def _translated(participle: str, name: str) -> AbstractContextManager[None]:
    return translated(f"The thumbnail {name} cannot be {participle}")

"""The cache's storage (`STORAGES["thumbnails"]`); files are replaced atomically."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages

from thumbnails import conf
from thumbnails.exceptions import StorageFailure
from thumbnails.rendering import THUMBNAIL, is_whole, look_at, read_stamp
from thumbnails.storage import cache_folder
from thumbnails.storage.deadlines import within
from thumbnails.storage.errors import Absent, translated, translated_writing
from thumbnails.storage.names import SHARDS, name_for, parse

T = TypeVar("T")

TEMPORARY_NAME = re.compile(r"([0-9a-f]{2})/\.([^/]+)\.[0-9a-f]{16}\.tmp")
"""As `ThumbnailStorage` names files: `82/.12345.jpg.0123456789abcdef.tmp`."""
LOCKS_FOLDER = ".locks"
SEEN_AT_MOST = 10_000
"""Files whose stamps a process remembers."""
OURS = {*SHARDS, LOCKS_FOLDER}
"""The entries that belong in the cache's folder."""
_SHARDS = frozenset(SHARDS)


class ThumbnailStorage(FileSystemStorage):
    """Files on disk that are replaced atomically: a reader sees the old bytes or the new ones.

    Other users of the machine cannot make it read, replace or delete files elsewhere: see
    `thumbnails.storage.cache_folder`. Names are `{shard}/{file}`; others raise
    SuspiciousFileOperation.
    """

    @cached_property
    def directory(self) -> str:
        """`location`, typed as the str that it is."""
        return os.fspath(self.location)

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Returns the name unchanged: a thumbnail replaces the existing one."""
        return name

    def load(self, name: str) -> "ThumbnailFile":
        """Returns the file. Raises OSError, also for a folder, a link or another user's file."""
        file = self._opened(name)
        try:
            found = os.fstat(file)
            _check_file(found, name)
            content = os.read(file, found.st_size + 1)
            while len(content) < found.st_size and (more := os.read(file, found.st_size)):
                content += more
        finally:
            os.close(file)
        return ThumbnailFile(content, found.st_mtime)

    def delete(self, name: str) -> None:
        shard, base = _split(name)
        with suppress(FileNotFoundError), cache_folder.opened(self.directory, shard) as opened:
            os.unlink(base, dir_fd=opened)

    def size(self, name: str) -> int:
        return self._stat(name).st_size

    def get_modified_time(self, name: str) -> datetime:
        timestamp = self._stat(name).st_mtime
        return datetime.fromtimestamp(timestamp, UTC if settings.USE_TZ else None)

    def _open(self, name: str, mode: str = "rb") -> "File[Any]":
        if mode != "rb":
            raise ValueError("A thumbnail is replaced as a whole, by save().")
        return File(os.fdopen(self._opened(name), mode), name)

    def _save(self, name: str, content: "File[Any]") -> str:
        shard, base = _split(name)
        try:
            self._replace(shard, base, content)
        except FileNotFoundError:  # the shard does not exist
            cache_folder.make(self.directory, shard)
            self._replace(shard, base, content)
        return name

    def _replace(self, shard: str, base: str, content: "File[Any]") -> None:
        # Beside its target, so that the rename is atomic, and hidden, so that it never passes for
        # a thumbnail.
        temporary = f".{base}.{secrets.token_hex(8)}.tmp"
        with cache_folder.opened(self.directory, shard) as opened:
            try:
                with self._create(temporary, opened) as file:
                    for part in content.chunks():
                        file.write(part)
                    file.flush()
                    if self.file_permissions_mode is not None:
                        os.fchmod(file.fileno(), self.file_permissions_mode)
                    # Without it a power failure may leave an empty file under the new name.
                    os.fsync(file.fileno())
                os.replace(temporary, base, src_dir_fd=opened, dst_dir_fd=opened)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=opened)
                raise

    def _create(self, name: str, opened: int) -> IO[bytes]:
        return os.fdopen(cache_folder.create_file(name, opened), "wb")

    def _opened(self, name: str) -> int:
        shard, base = _split(name)
        opened = cache_folder.open_folder(self.directory, shard)
        try:
            return cache_folder.open_file(base, opened)
        finally:
            os.close(opened)

    def _stat(self, name: str) -> os.stat_result:
        shard, base = _split(name)
        with cache_folder.opened(self.directory, shard) as opened:
            found = os.stat(base, dir_fd=opened, follow_symlinks=False)
        _check_file(found, name)
        return found


def _check_file(found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode) or not cache_folder.is_trusted(found):
        raise FileNotFoundError(errno.ENOENT, "not a regular file of the site", name)


def _split(name: str) -> tuple[str, str]:
    shard, _, base = name.partition("/")
    if shard not in _SHARDS or "/" in base:
        raise SuspiciousFileOperation(f"{name!r} is not a name in the cache")
    return shard, base


class Kind(StrEnum):
    """What a file in the cache's folder is, by its name and type."""

    THUMBNAIL = "thumbnail"
    VARIANT = "variant"
    TEMPORARY = "temporary"
    """An incomplete thumbnail: its writer is running, or died."""
    FOREIGN = "foreign"
    """Anything else: other names, folders and links. Never touched."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file found in the cache's folder."""

    name: str
    kind: Kind
    asset_id: int = 0
    """Of a thumbnail or variant."""
    suffix: str = ""
    """Of a thumbnail or variant."""
    size_bytes: int = 0


def storage() -> Storage:
    return storages["thumbnails"]


@dataclass(frozen=True)
class ThumbnailFile:
    """A thumbnail's file as it was read, or as it was just rendered."""

    content: bytes
    modified_at: float
    """Seconds since 1970."""
    is_stored: bool = True
    """False if it is not in the cache, so that the next request renders it again."""
    variants: Mapping[str, bytes] = field(default_factory=dict)
    """By suffix, those that were just rendered with it."""

    @cached_property
    def stamp(self) -> str | None:
        """The file's fingerprint; None if it has none or is not whole."""
        return read_stamp(self.content)

    @property
    def is_whole(self) -> bool:
        """Whether it has a JPEG's start and end markers."""
        return look_at(self.content).is_whole


@dataclass(frozen=True)
class VariantFile(ThumbnailFile):
    """A variant's file as it was read, or as it was just rendered."""

    thumbnail: ThumbnailFile = field(kw_only=True)

    @cached_property
    def stamp(self) -> str | None:
        """That of the thumbnail. It is written after its variants: they are never older."""
        return self.thumbnail.stamp


def write(name: str, content: bytes) -> None:
    """Write a thumbnail to the cache, replacing the old one. Raises StorageFailure."""
    with translated_writing(f"The thumbnail {name} cannot be written"):
        _within_limit(lambda: storage().save(name, ContentFile(content)))


def read(name: str) -> bytes | None:
    """Returns the thumbnail's bytes, None if there is none. Raises StorageFailure."""
    found = load(name)
    return None if found is None else found.content


def load(name: str) -> ThumbnailFile | None:
    """Returns the thumbnail's file, None if there is none. Raises StorageFailure.

    Without a timeout on a local disk, where a thread would dominate the cost of a hit.
    """
    with suppress(Absent), translated(f"The thumbnail {name} cannot be read"):
        store = storage()
        if isinstance(store, ThumbnailStorage):
            return store.load(name)
        return _within_limit(partial(_load_object, store, name))
    return None


_seen: dict[str, tuple[tuple[int, int, int], str | None]] = {}
"""By path: what told a file apart from others that were there, and its stamp."""


def has_stamp(name: str, stamp: str) -> bool:
    """Whether the thumbnail's file has that stamp; False for any storage but a local disk.

    Remembers the stamp of a file until another one
    is there: to look at its status costs a tenth of reading it.
    """
    store = storage()
    if not isinstance(store, ThumbnailStorage):
        return False
    path = f"{store.directory}/{name}"
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116  a Path costs as much again
        identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        known = _seen.get(path)
        if known is None or known[0] != identity:
            if len(_seen) >= SEEN_AT_MOST:
                _seen.clear()
            known = _seen[path] = (identity, store.load(name).stamp)
    except OSError:
        return False
    return known[1] == stamp


def load_variant(asset_id: int, suffix: str, thumbnail: ThumbnailFile) -> VariantFile | None:
    """Returns the file of the thumbnail's variant, None if there is none or it is not whole.

    Raises StorageFailure.
    """
    if suffix in thumbnail.variants:
        content = thumbnail.variants[suffix]
        at, is_stored = thumbnail.modified_at, thumbnail.is_stored
        return VariantFile(content, at, is_stored=is_stored, thumbnail=thumbnail)
    found = load(name_for(asset_id, suffix))
    if found is None or not is_whole(found.content, suffix):
        return None
    return VariantFile(found.content, found.modified_at, thumbnail=thumbnail)


def _load_object(store: Storage, name: str) -> ThumbnailFile:
    with store.open(name, "rb") as file:
        return ThumbnailFile(bytes(file.read()), store.get_modified_time(name).timestamp())


def size_bytes(name: str) -> int | None:
    """Returns the file's size, None if there is none. Raises StorageFailure."""
    with suppress(Absent), translated(f"The thumbnail {name} cannot be read"):
        store = storage()
        if isinstance(store, ThumbnailStorage):
            return store.size(name)
        return _within_limit(lambda: store.size(name))
    return None


def modified_at(name: str) -> datetime | None:
    """Returns when the file was written, None if there is none. Raises StorageFailure."""
    with suppress(Absent), translated(f"The thumbnail {name} cannot be read"):
        return _within_limit(lambda: storage().get_modified_time(name))
    return None


def delete(name: str) -> None:
    """Delete a thumbnail if it exists. Raises StorageFailure."""
    with suppress(Absent), translated(f"The thumbnail {name} cannot be deleted"):
        _within_limit(lambda: storage().delete(name))


def delete_with_variants(asset_id: int, suffixes: Iterable[str]) -> None:
    """Delete the variants with these suffixes, then the thumbnail. Raises StorageFailure."""
    for suffix in (*suffixes, THUMBNAIL):
        delete(name_for(asset_id, suffix))


def _within_limit(act: Callable[[], T]) -> T:
    return within(conf.current().render_seconds, act, place="thumbnails")


def walk(shard: str) -> Iterator[CachedFile]:
    """Yields the thumbnails of one shard. Raises StorageFailure."""
    return (file for file in survey(shard) if file.kind == Kind.THUMBNAIL)


def survey(shard: str) -> Iterator[CachedFile]:
    """Yields every entry of one shard; links are not followed. Raises StorageFailure."""
    if shard not in SHARDS:
        raise ValueError(f"{shard!r} is not a shard")
    store = storage()
    with suppress(Absent), translated(f"The shard {shard} cannot be listed"):
        if isinstance(store, ThumbnailStorage):
            yield from _survey_disk(store.directory, shard)
        else:
            for base in _within_limit(lambda: store.listdir(shard))[1]:
                name = f"{shard}/{base}"
                yield _file(name, _within_limit(partial(store.size, name)))


def check_reachable() -> None:
    """Raises StorageFailure if the cache cannot be read, or its folder cannot be written to."""
    store = storage()
    if not isinstance(store, ThumbnailStorage):
        size_bytes(f"{SHARDS[0]}/0.jpg")
        return
    with translated_writing("The cache cannot be used"):
        cache_folder.check(store.directory)
        if not os.access(existing_folder(Path(store.directory)), os.W_OK | os.X_OK):
            raise StorageFailure("The cache's folder cannot be written to.")


def check_folder() -> None:
    """To be called at the start of a process that uses the cache.

    Raises ImproperlyConfigured, with a remedy, if other users may write to the cache's folder or
    replace it. An unavailable disk does not prevent the start.
    """
    store = storage()
    if not isinstance(store, ThumbnailStorage):
        return
    try:
        _within_limit(lambda: cache_folder.check(store.directory))
    except cache_folder.UnsafePath as error:
        raise ImproperlyConfigured(
            f"{store.directory} cannot be the cache's folder: {error.fault}. {error.remedy}"
        ) from error
    except OSError:
        return


def existing_folder(path: Path) -> Path:
    """The folder itself or, if it does not exist yet, its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return path


def foreign_beside_shards() -> list[CachedFile]:
    """Returns the foreign entries of the cache's folder itself. Raises StorageFailure."""
    store = storage()
    if not isinstance(store, ThumbnailStorage):
        return []
    with (
        suppress(Absent),
        translated("The cache's folder cannot be listed"),
        cache_folder.opened(store.directory) as opened,
        os.scandir(opened) as entries,
    ):
        return [
            CachedFile(entry.name, Kind.FOREIGN)
            for entry in entries
            if entry.name not in OURS or entry.is_symlink()
        ]
    return []


def _survey_disk(location: str, shard: str) -> Iterator[CachedFile]:
    with cache_folder.opened(location, shard) as opened, os.scandir(opened) as entries:
        for entry in entries:
            name = f"{shard}/{entry.name}"
            if not entry.is_file(follow_symlinks=False):
                yield CachedFile(name, Kind.FOREIGN)
                continue
            with suppress(FileNotFoundError):  # deleted since it was listed
                yield _file(name, entry.stat(follow_symlinks=False).st_size)


def _file(name: str, size_bytes: int) -> CachedFile:
    parsed = parse(name)
    if parsed is not None:
        kind = Kind.THUMBNAIL if parsed[1] == THUMBNAIL else Kind.VARIANT
        return CachedFile(name, kind, *parsed, size_bytes)
    match = TEMPORARY_NAME.fullmatch(name)
    is_temporary = match is not None and parse(f"{match[1]}/{match[2]}") is not None
    return CachedFile(name, Kind.TEMPORARY if is_temporary else Kind.FOREIGN)


def path_on_disk(name: str) -> str | None:
    """The path of a file with a name from `name_for`; None for a storage without paths.

    Django's own `path` guards against untrusted names and costs more than opening the file.
    """
    store = storage()
    return f"{store.location}/{name}" if isinstance(store, FileSystemStorage) else None


def folder() -> Path | None:
    """The cache's folder, with links resolved; None for a storage without paths."""
    store = storage()
    return Path(store.location).resolve() if isinstance(store, FileSystemStorage) else None

"""Several roots of originals: a folder that the site writes to, and others that it only reads."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages

from thumbnails.exceptions import StorageFailure
from thumbnails.storage.deadlines import within

PLACE = "originals"
NAME_LENGTH = 50
NAME = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{NAME_LENGTH - 1}}}")
RESERVED = {"imported", "uploads"}
"""The folders for new files in the main folder."""
RESOLVE_SECONDS = 5.0
"""How long to wait for the disk of a root before going on without it."""

Root = str | os.PathLike[str] | Mapping[str, Any]
"""A folder, or a storage with BACKEND and OPTIONS as in STORAGES."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where an original is."""

    root: str
    """Empty for the main folder."""
    storage: Storage
    name: str
    """Its name in that storage."""
    is_tracked: bool = False
    """Whether the root is the storage of a tracked field, which the project itself writes to."""

    @property
    def place(self) -> str:
        """Of its timeouts: a root that hangs uses up no helper threads of the others."""
        return f"{PLACE}:{self.root}" if self.root else PLACE

    @property
    def folder(self) -> str | None:
        """The root's folder; None if it is not on disk."""
        return _folder_of(self.storage)

    @contextmanager
    def told_from_away(self) -> Iterator[None]:
        """Raises StorageFailure inside the block instead of FileNotFoundError if it is the root
        that is missing: an original cannot be gone of a folder that is missing or empty."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.root and self.folder is not None and _is_missing_or_empty(self.folder):
                raise StorageFailure(
                    f"The root {self.root} is away: {self.folder} is missing or empty. "
                    "Is it not mounted?"
                ) from error
            raise


def located_in(root: str, storage: Storage, name: str, *, is_tracked: bool = False) -> Located:
    """Returns where the original of that name in the root is.

    Raises SuspiciousFileOperation for a name that leads out of the root.
    """
    if name and not {"", ".", ".."}.isdisjoint(name.split("/")):
        whole = f"{root}/{name}"
        raise SuspiciousFileOperation(f"{whole!r} names no original.")
    return Located(root, storage, name, is_tracked)


def _folder_of(storage: Storage) -> str | None:
    return os.fspath(storage.location) if isinstance(storage, FileSystemStorage) else None


def resolved_folder(storage: Storage, *, place: str) -> Path | None:
    """Returns the storage's folder with links resolved; None if it is not on disk, or the disk
    hangs. `place` is that of its timeouts."""
    if (folder := _folder_of(storage)) is None:
        return None
    try:
        return Path(within(RESOLVE_SECONDS, partial(os.path.realpath, folder), place=place))
    except TimeoutError:
        return None


def _is_missing_or_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True


class OriginalsStorage(Storage):
    """A main folder, and `roots` beside it that are never written to.

    A name whose first component is a root's name is of an original there: `nas/2019/a.jpg` is
    `2019/a.jpg` in the root `nas`. All others are in the main folder, `location`. Each is a folder
    or any other storage. Raises ImproperlyConfigured for a root that cannot be.
    """

    def __init__(
        self, location: Root, roots: Mapping[str, Root] | None = None, **options: Any
    ) -> None:
        self.main = _storage_of("the originals", location, **options)
        self.roots: dict[str, Storage] = {}
        for name, root in (roots or {}).items():
            _check_name(name)
            self.roots[name] = _storage_of(f"the root {name}", root)

    def locate(self, name: str) -> Located:
        """Raises SuspiciousFileOperation for a name that leads out of its root."""
        root, _, rest = name.partition("/")
        if root not in self.roots:
            return Located("", self.main, name)
        return located_in(root, self.roots[root], rest)

    def folders(self) -> dict[str, Path]:
        """Returns the folders of the roots that are on disk, with links resolved; the main folder
        is under "". Without those whose disk hangs."""
        found = {}
        for root, storage in {"": self.main, **self.roots}.items():
            place = Located(root, storage, "").place
            if (folder := resolved_folder(storage, place=place)) is not None:
                found[root] = folder
        return found

    def check(self, *, cache: Path | None) -> None:
        """Raises ImproperlyConfigured, with a remedy, if an original could have two names or none.

        `cache` is the cache's folder, if it is on disk.
        """
        folders = self.folders()
        main = folders.pop("", None)
        others = {"the main folder": main, "the cache": cache}
        for root, folder in folders.items():
            for title, other in others.items():
                if other is not None and _overlap(folder, other):
                    raise ImproperlyConfigured(
                        f"The folders of the root {root} ({folder}) and of {title} ({other}) are "
                        "one, or one is inside the other: name separate folders."
                    )
            others[f"the root {root}"] = folder
        for root in self.roots:
            if main is not None and os.path.lexists(main / root):
                raise ImproperlyConfigured(
                    f"{main / root} is hidden by the root {root}, whose originals have names that "
                    f"begin with {root}/: rename the folder or the root."
                )

    # --- a Django storage -----------------------------------------------------------------------

    def path(self, name: str) -> str:
        located = self.locate(name)
        return str(located.storage.path(located.name))

    def url(self, name: str | None) -> str:
        located = self.locate(name or "")
        return located.storage.url(located.name)

    def exists(self, name: str) -> bool:
        located = self.locate(name)
        return located.storage.exists(located.name)

    def size(self, name: str) -> int:
        located = self.locate(name)
        return located.storage.size(located.name)

    def get_modified_time(self, name: str) -> datetime:
        located = self.locate(name)
        return located.storage.get_modified_time(located.name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        located = self.locate(path)
        return located.storage.listdir(located.name)

    def open(self, name: str, mode: str = "rb") -> "File[Any]":
        located = self.locate(name)
        if mode != "rb":
            _check_writable(located, name)
        return located.storage.open(located.name, mode)

    def save(self, name: str | None, content: "IO[Any]", max_length: int | None = None) -> str:
        if name is not None:
            _check_writable(self.locate(name), name)
        return self.main.save(name, content, max_length)

    def delete(self, name: str) -> None:
        _check_writable(self.locate(name), name)
        self.main.delete(name)


def _check_writable(located: Located, name: str) -> None:
    if located.root:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ImproperlyConfigured(
            f"A root of originals cannot be named {name!r}: use at most {NAME_LENGTH} lowercase "
            "letters, digits, - and _, with a letter or digit first."
        )
    if name in RESERVED:
        raise ImproperlyConfigured(
            f"A root of originals cannot be named {name!r}: new files are stored below that name."
        )


def _storage_of(what: str, root: Root, **options: Any) -> Storage:
    if isinstance(root, Mapping):
        return storages.create_storage(dict(root))
    if not Path(root).is_absolute():
        raise ImproperlyConfigured(
            f"The folder of {what} must be an absolute path, not {os.fspath(root)!r}."
        )
    return FileSystemStorage(location=os.fspath(root), **options)

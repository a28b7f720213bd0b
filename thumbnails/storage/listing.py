"""Listing the originals of a root that is not on disk."""

from collections.abc import Iterator
from dataclasses import dataclass

from thumbnails.exceptions import ThumbnailError, Unsupported
from thumbnails.storage import originals
from thumbnails.storage.errors import Absent, translated


@dataclass(frozen=True, slots=True)
class Entry:
    """A file; or a folder that is hidden or cannot be listed."""

    name: str
    """As an original's."""
    error: ThumbnailError | None = None
    """Why it cannot be an original."""


def entries_below(name: str, *, with_hidden: bool) -> Iterator[Entry]:
    """Yields what is below that name in order of names, a folder at a time.

    Hidden folders, whose names begin with a dot, are not entered unless `with_hidden`.
    """
    waiting = [name]
    while waiting:
        folder = waiting.pop()
        try:
            folders, files = _listed(folder)
        except ThumbnailError as error:
            yield Entry(folder, error)
            continue
        below = []
        for base, is_folder in sorted([(b, True) for b in folders] + [(b, False) for b in files]):
            path = f"{folder}/{base}"
            if base in ("", ".", "..") or "/" in base:
                yield Entry(path, Unsupported("Its name has an empty part, or . or .. as a part."))
            elif is_folder and (with_hidden or not base.startswith(".")):
                below.append(path)
            else:
                yield Entry(path)
        waiting += reversed(below)


def _listed(name: str) -> tuple[list[str], list[str]]:
    """The names of folders and of files in a folder. Without a timeout: there may be millions."""
    try:
        with translated(f"The folder {name} cannot be listed"):
            located = originals.locate(name)
            return located.storage.listdir(located.name)
    except Absent:
        return [], []

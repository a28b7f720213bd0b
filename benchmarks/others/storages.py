"""Storages that count how often they are asked for what only the storage knows."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.core.files.storage import FileSystemStorage, Storage

from thumbnails.storage.roots import OriginalsStorage
from thumbnails.storage.thumbnails import ThumbnailStorage

S = TypeVar("S", bound=type[Storage])

ASKING = (
    *("exists", "open", "size", "listdir", "load"),
    *("get_accessed_time", "get_created_time", "get_modified_time"),
)
"""Not `url` and `path`, which look at nothing."""
_asked = 0


def asked() -> int:
    """Returns how often all storages of this process were asked."""
    return _asked


def _counted(storage: S) -> S:
    for name in ASKING:
        if method := getattr(storage, name, None):
            setattr(storage, name, _counting(method))
    return storage


def _counting(method: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*args: Any, **kwargs: Any) -> Any:
        global _asked  # noqa: PLW0603  a count
        _asked += 1
        return method(*args, **kwargs)

    return counting


@_counted
class CountingStorage(FileSystemStorage):
    """The media of other libraries' projects."""


@_counted
class CountingOriginals(OriginalsStorage):
    """This project's originals."""


@_counted
class CountingThumbnails(ThumbnailStorage):
    """This project's cache."""

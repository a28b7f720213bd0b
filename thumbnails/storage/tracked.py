"""The storages of tracked fields, each a root of originals that this app only reads.

Several may be one storage, or have folders inside each other: their originals are known by the
rows of the project's models and not by a path, so that no file has two names in one root.
"""

from collections.abc import Callable

from django.core.files.storage import Storage

_storages: dict[str, Callable[[], Storage]] = {}


def add_root(root: str, storage: Callable[[], Storage]) -> None:
    """Let `root` be the storage that `storage` returns."""
    _storages[root] = storage


def remove_root(root: str) -> None:
    _storages.pop(root, None)


def roots() -> list[str]:
    """Returns the names of the roots."""
    return list(_storages)


def storage_of(root: str) -> Storage | None:
    """Returns the storage of that root; None if it is not a tracked field's."""
    storage = _storages.get(root)
    return None if storage is None else storage()

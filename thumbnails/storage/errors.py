"""Errors of storages, translated: either the file is absent, or the storage failed.

Django's own storages raise OSErrors. Those of object storages raise the errors of their client
library, which share no base class: botocore's have the response's status in `response`, Google's
in `code`, Azure's in `status_code`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.core.exceptions import SuspiciousOperation

from thumbnails.exceptions import StorageFailure, ThumbnailError

ABSENT_CODES = {"404", "NoSuchKey", "NotFound"}
ABSENT = (FileNotFoundError, NotADirectoryError, SuspiciousOperation)
"""A name that leads out of the storage, or through a file, names no file in it."""


class Absent(Exception):
    """There is no such file."""


def is_absent(error: Exception) -> bool:
    """Whether the storage says that there is no such file."""
    if isinstance(error, ABSENT):
        return True
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        # A missing bucket is 404, too, but says nothing about the file.
        return str(response.get("Error", {}).get("Code")) in ABSENT_CODES
    status = getattr(error, "status_code", getattr(error, "code", None))
    return bool(status == HTTPStatus.NOT_FOUND)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate whatever a storage raises inside the block.

    `what` begins the message: "The original a.jpg cannot be read". Raises Absent if there is no
    such file, StorageFailure for everything else.
    """
    try:
        yield
    except (ThumbnailError, Absent):
        raise
    except TimeoutError as error:
        raise StorageFailure(f"{what}: the storage does not answer.") from error
    except Exception as error:
        if is_absent(error) or (isinstance(error, ValueError) and "null" in str(error)):
            raise Absent from error
        raise StorageFailure(f"{what}: {_reason(error)}.") from error


@contextmanager
def translated_writing(what: str) -> Iterator[None]:
    """As `translated`, for writing: a missing folder is a StorageFailure, too."""
    try:
        with translated(what):
            yield
    except Absent as error:
        cause = error.__cause__
        reason = _reason(cause) if isinstance(cause, Exception) else "it does not exist"
        raise StorageFailure(f"{what}: {reason}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".rstrip(".")[:200]

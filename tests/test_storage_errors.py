"""What storages raise: told apart into what is not there and what cannot be told."""

from __future__ import annotations

import errno
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.core.exceptions import SuspiciousOperation
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from pytest_django import Settings

from thumbnails.exceptions import SourceMissing, StorageFailure, ThumbnailError, TooLarge
from thumbnails.storage import originals, thumbnails
from thumbnails.storage.errors import Absent, is_absent, translated
from thumbnails.storage.names import name_for

NAME = name_for(12345)


class ClientError(Exception):
    """As botocore's: what S3 answered is in `response`."""

    def __init__(self, code: str, status: int | None = None) -> None:
        super().__init__(f"An error occurred ({code}) when calling the HeadObject operation")
        metadata = {} if status is None else {"HTTPStatusCode": status}
        self.response = {"Error": {"Code": code}, "ResponseMetadata": metadata}


class GoogleError(Exception):
    """As google.api_core's, whose `response` is of requests or None."""

    def __init__(self, code: int, response: Any = None) -> None:
        super().__init__(f"{code} GET https://storage.googleapis.com/…")
        self.code = HTTPStatus(code)
        self.response = response


class AzureError(Exception):
    """As azure.core's HttpResponseError, whose `response` is an object of its own."""

    def __init__(self, status_code: int | None) -> None:
        super().__init__("The specified blob does not exist.")
        self.status_code = status_code
        self.response = object()


class EndpointConnectionError(Exception):
    """As botocore's: no answer at all, and so no `response`."""


ABSENT = [
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    NotADirectoryError(errno.ENOTDIR, "Not a directory"),
    SuspiciousOperation("out of the storage"),
    ClientError("404", 404),
    ClientError("NoSuchKey", 404),
    ClientError("NoSuchKey"),
    GoogleError(404),
    AzureError(404),
]
UNKNOWN = [
    PermissionError(errno.EACCES, "Permission denied"),
    IsADirectoryError(errno.EISDIR, "Is a directory"),
    ClientError("AccessDenied", 403),
    ClientError("NoSuchBucket"),
    GoogleError(503, object()),
    AzureError(403),
    AzureError(None),
    EndpointConnectionError("Could not connect to the endpoint URL"),
    RuntimeError("a client that is broken"),
    ValueError("another value"),
]


def named(error: Exception) -> str:
    return f"{type(error).__name__}-{error}"[:50]


@pytest.mark.parametrize("error", ABSENT, ids=named)
def test_absent__is_what_the_storage_says_is_not_there(error: Exception) -> None:
    assert is_absent(error)
    with pytest.raises(Absent) as caught, translated("The original a.jpg cannot be read"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", UNKNOWN, ids=named)
def test_failure__is_everything_else(error: Exception) -> None:
    assert not is_absent(error)
    with pytest.raises(StorageFailure) as caught, translated("The original a.jpg cannot be read"):
        raise error
    assert caught.value.__cause__ is error
    said = str(caught.value)
    assert said.startswith("The original a.jpg cannot be read: ")
    assert said.endswith(".")
    assert (getattr(error, "strerror", None) or str(error)) in said


def test_failure__of_one_that_hangs_says_so() -> None:
    with (
        pytest.raises(StorageFailure, match=r"^It cannot be read: the storage does not answer\.$"),
        translated("It cannot be read"),
    ):
        raise TimeoutError


def test_failure__is_told_briefly() -> None:
    with pytest.raises(StorageFailure) as caught, translated("It cannot be read"):
        raise RuntimeError("x" * 10_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("error", [TooLarge("too large"), SourceMissing("gone"), Absent()])
def test_translated__leaves_our_own_as_they_are(error: Exception) -> None:
    with (
        pytest.raises((ThumbnailError, Absent)) as caught,
        translated("The original a.jpg cannot be read"),
    ):
        raise error
    assert caught.value is error


def test_translated__holds_up_no_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), translated("It cannot be read"):
        raise KeyboardInterrupt


# --- The storages themselves ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "in_folder"),
    [
        ("nul\0.jpg", True),
        ("../outside.jpg", True),
        ("/etc/passwd", True),
        ("a.jpg/b.jpg", True),
        ("../outside.jpg", False),
        ("a.jpg/b.jpg", False),
    ],
)
def test_original__of_a_name_that_can_name_nothing_is_missing(
    originals_dir: Path, settings: Settings, name: str, in_folder: bool
) -> None:
    (originals_dir / "a.jpg").write_bytes(b"a file")
    (originals_dir.parent / "outside.jpg").write_bytes(b"a secret")
    if not in_folder:
        in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        settings.STORAGES = {**settings.STORAGES, "originals": in_memory}
    with pytest.raises(SourceMissing):
        originals.source_version(name)
    with pytest.raises(SourceMissing), originals.read(name):
        pass


@pytest.fixture
def object_storages(settings: Settings) -> None:
    """Storages without folders, as those of a cloud are."""
    in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "originals": in_memory, "thumbnails": in_memory}


def make_all_raise(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    for verb in ("open", "size", "get_modified_time", "delete", "save", "listdir"):
        monkeypatch.setattr(InMemoryStorage, verb, fail)


@pytest.mark.parametrize("error", [ClientError("404", 404), GoogleError(404), AzureError(404)])
def test_object_storage__that_has_it_not_is_like_a_folder_without_it(
    object_storages: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    make_all_raise(monkeypatch, error)
    assert thumbnails.load(NAME) is None
    assert thumbnails.size_bytes(NAME) is None
    assert thumbnails.modified_at(NAME) is None
    thumbnails.delete(NAME)
    assert list(thumbnails.walk(NAME.partition("/")[0])) == []
    with pytest.raises(SourceMissing, match=r"a\.jpg is gone"):
        originals.source_version("a.jpg")
    with pytest.raises(SourceMissing, match=r"a\.jpg is gone"), originals.read("a.jpg"):
        pass


@pytest.mark.parametrize("error", [ClientError("AccessDenied", 403), GoogleError(503)])
def test_object_storage__that_errs_is_a_failure_that_names_the_file(
    object_storages: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    make_all_raise(monkeypatch, error)
    for act in (thumbnails.load, thumbnails.size_bytes, thumbnails.modified_at, thumbnails.delete):
        with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be "):
            act(NAME)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be written"):
        thumbnails.write(NAME, b"content")
    with pytest.raises(StorageFailure, match=r"^The original a\.jpg cannot be read"):
        originals.source_version("a.jpg")
    with (
        pytest.raises(StorageFailure, match=r"^The original a\.jpg cannot be read"),
        originals.read("a.jpg"),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory"),
        ClientError("NoSuchBucket", 404),
    ],
    ids=named,
)
def test_write__that_finds_no_place_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A thumbnail that is to be written cannot be absent."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(FileSystemStorage, "save", fail)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be written: "):
        thumbnails.write(NAME, b"content")

"""Originals that lie elsewhere, in an object store whose client raises errors of its own."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.files.base import File
from django.core.files.storage import Storage

ALL = "*"


class ClientError(Exception):
    """As botocore's: the store answered, and what it said is in `response`. No OSError."""

    def __init__(self, code: str, operation: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the {operation} operation")
        self.response = {
            "Error": {"Code": code, "Message": "Not Found" if code == "404" else code},
            "ResponseMetadata": {"HTTPStatusCode": int(code)},
        }


class EndpointConnectionError(Exception):
    """As botocore's: the store cannot be reached. No OSError, and no response."""

    def __init__(self) -> None:
        super().__init__('Could not connect to the endpoint URL: "https://store.invalid/"')


class DistantStorage(Storage):
    """A folder that errs as the file `errors` says: `404 NAME`, `down *`, or `hang NAME`."""

    def __init__(self, *, location: str, errors: str) -> None:
        self._folder = Path(location)
        self._errors = Path(errors)

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        return File(self._reached(name, "GetObject").open(mode))

    def exists(self, name: str) -> bool:
        return self._reached(name, "HeadObject").exists()

    def size(self, name: str) -> int:
        return self._reached(name, "HeadObject").stat().st_size

    def get_modified_time(self, name: str) -> datetime:
        return datetime.fromtimestamp(self._reached(name, "HeadObject").stat().st_mtime, UTC)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        entries = list(self._reached(path, "ListObjects").iterdir())
        folders = [entry.name for entry in entries if entry.is_dir()]
        return folders, [entry.name for entry in entries if entry.is_file()]

    def _reached(self, name: str, operation: str) -> Path:
        lines = self._errors.read_text().splitlines() if self._errors.exists() else []
        for code, pattern in (line.split(" ", 1) for line in lines):
            if pattern not in (ALL, Path(name).name):
                continue
            if code == "hang":
                threading.Event().wait()
            raise EndpointConnectionError if code == "down" else ClientError(code, operation)
        path = self._folder / name
        if not path.exists():
            raise ClientError("404", operation)
        return path


class Distant:
    """The store's moods, told to all processes with these settings."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        self.settings = {"FAULTS_DISTANT_ERRORS": str(errors)}

    def err(self, code: str, name: str = ALL) -> None:
        self._errors.write_text(f"{code} {name}\n")

    def mend(self) -> None:
        self._errors.unlink()

"""A small server that speaks S3, for tests of storages that are not on disk."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import boto3

from tests.servers import Server

BUCKET = "originals"
KEY, SECRET = "tests", "only-for-the-tests"


class ObjectServer(Server):
    """Keeps its objects in a folder."""

    name = "objects"

    def __init__(self) -> None:
        super().__init__()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        os.environ |= {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    @property
    def storage(self) -> dict[str, Any]:
        """The Django storage of the bucket, as in STORAGES."""
        return {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "endpoint_url": self.url,
                "bucket_name": BUCKET,
                "access_key": KEY,
                "secret_key": SECRET,
                "region_name": "us-east-1",
            },
        }

    def put(self, folder: Path) -> None:
        """Copy the files below a folder into the bucket, which is made."""
        self.client.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.upload_file(str(path), BUCKET, path.relative_to(folder).as_posix())

    def _command(self) -> list[str | Path]:
        options: list[str | Path] = ["--data-dir", self.home / "data", "--host", "127.0.0.1"]
        return [Path(sys.executable).parent / "nanio", "serve", *options, "--port", str(self._port)]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

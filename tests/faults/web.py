"""The site's web server as visitors meet it: gunicorn in a process of its own, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.processes import Session, start_python
from tests.waiting import wait_for
from thumbnails.models import ImageAsset

ANSWER_SECONDS = 120.0
"""Generous: who waits for longer is left hanging."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes


class WebServer(Session):
    """A gunicorn with so many threads in one process, at a port that the system chose."""

    def __init__(self, environment: Mapping[str, str], log: Path, *, threads: int) -> None:
        self._log = log
        self.port = 0
        how = ["--bind", "127.0.0.1:0", "--workers", "1", "--threads", str(threads)]
        command = ["-m", "gunicorn", "thumbsite.wsgi", *how, "--no-control-socket"]
        self._process = start_python(command, environment, log)

    def wait_until_ready(self) -> None:
        """Return when it answers. Raises RuntimeError with its log where it ended before."""
        listening = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
        wait_for(lambda: not self.running or listening.search(self.log), "the web server to begin")
        found = listening.search(self.log)
        if found is None:
            raise RuntimeError(f"the web server ended at its start:\n{self.log}")
        self.port = int(found[1])
        assert self.get("/api/v1/healthz").status == 200

    def get(self, path: str) -> Answer:
        """Ask for that, over a connection of its own; from as many threads as one likes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def thumbnail(self, asset: ImageAsset, version: str = "") -> Answer:
        """Ask for an asset's thumbnail as the public does, with a `?v=` where one is given."""
        path, _, _ = asset.thumbnail_url.partition("?")
        return self.get(path + (f"?v={version}" if version else ""))

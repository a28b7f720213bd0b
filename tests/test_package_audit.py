"""`make audit`, with a database of vulnerabilities that answers what a test wants."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.processes import ROOT

VULNERABILITY = {
    "id": "PYSEC-2026-1",
    "summary": "A made-up vulnerability.",
    "affected": [
        {
            "package": {"name": "django", "ecosystem": "PyPI"},
            "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]},
            ],
        }
    ],
}


class Database(ThreadingHTTPServer):
    """Speaks as OSV does: JSON by POST, one package a request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = HTTPStatus.OK
        self.vulnerable: dict[str, dict[str, Any]] = {}
        self.asked_for: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Answer(BaseHTTPRequestHandler):
    server: Database

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package = query["package"]["name"]
        self.server.asked_for.add(package)
        known = self.server.vulnerable.get(package)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [known]} if known else {}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.package_audit", "--osv-url", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_audit__looks_up_what_the_site_runs_on(database: Database) -> None:
    done = audit(database.url)
    assert (done.returncode, done.stdout) == (0, "No known vulnerabilities found\n")
    assert {"django", "pillow", "psycopg-binary"} <= database.asked_for


def test_audit__names_a_vulnerable_package(database: Database) -> None:
    database.vulnerable["django"] = VULNERABILITY
    done = audit(database.url)
    assert done.returncode == 1
    [row] = [line for line in done.stdout.splitlines() if line.startswith("django ")]
    assert row.split()[2:4] == ["PYSEC-2026-1", "99.0"]


@pytest.mark.parametrize("fault", ["away", "failing"])
def test_audit__says_that_the_database_gave_no_answer(database: Database, fault: str) -> None:
    url = database.url
    if fault == "away":
        database.shutdown()
        database.server_close()
    database.status = HTTPStatus.SERVICE_UNAVAILABLE
    done = audit(url)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("The database of known vulnerabilities did not answer: nothing was")

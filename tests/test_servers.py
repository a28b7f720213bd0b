"""The tests' own servers: faults that other tests cause on purpose must be the only ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.processes import ROOT, database_url
from tests.servers import PostgresServer, QueueServer, copy_postgres, postgres_binaries
from tests.waiting import is_alive, wait_for


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def queue() -> Iterator[QueueServer]:
    with QueueServer() as server:
        yield server


def ask(server: PostgresServer, query: str) -> object:
    with psycopg.connect(server.url) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def test_postgres__keeps_what_was_committed_when_killed(postgres: PostgresServer) -> None:
    ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.kill()
    postgres.start()
    assert ask(postgres, "SELECT answer FROM kept") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
def test_postgres__runs_where_its_user_may_not_enter_the_installation(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    with PostgresServer(copy_postgres(postgres_binaries(), secret)) as server:
        assert ask(server, "SELECT 1") == 1


def test_queue__keeps_its_jobs_when_killed(queue: QueueServer) -> None:
    with queue.client as client:
        client.set("job", "kept")
    queue.kill()
    assert not queue.running
    queue.start()
    with queue.client as client:
        assert client.get("job") == b"kept"


def test_queue__forgets_when_wiped(queue: QueueServer) -> None:
    with queue.client as client:
        client.set("job", "lost")
    queue.wipe()
    with queue.client as client:
        assert client.get("job") is None


def test_server__leaves_nothing_behind() -> None:
    with PostgresServer() as server:
        home, pid = server.home, server.pid
        assert pid is not None
    assert not home.exists()
    assert not psutil.pid_exists(pid)


def test_server__tells_why_it_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueServer, "_command", lambda _: ["sh", "-c", "echo no room; exit 1"])
    with pytest.raises(RuntimeError, match="no room"), QueueServer():
        pass


def test_server__ends_with_its_killed_starter() -> None:
    # PostgreSQL runs as another user where root runs the tests.
    program = (
        "import sys, time\n"
        "from tests.servers import PostgresServer\n"
        "server = PostgresServer()\n"
        "server.start()\n"
        "print(server.pid, server.home, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pid, home = starter.stdout.readline().split()
        os.kill(starter.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):  # it may have gone already
        process = psutil.Process(int(pid))
        wait_for(lambda: not is_alive(process), "the server's end")
    # Its starter did not live to do it.
    shutil.rmtree(home)


def test_database_url__names_another_database_on_the_same_server() -> None:
    site = "postgres://me:s%40fe@%2Ftmp%2Fsocket:5433/site"
    assert database_url(site, "test_site") == "postgres://me:s%40fe@%2Ftmp%2Fsocket:5433/test_site"
    assert database_url("sqlite:////var/site", "/var/test") == "sqlite:////var/test"

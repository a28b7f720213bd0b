"""Commands as tests run them, here or in processes of their own, and RQ workers."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import psutil
import redis
from django.core.management import load_command_class

from tests import lifeline, warm
from tests.waiting import is_alive, wait_for

ROOT = warm.ROOT
QUEUES = ("thumbnails-now", "thumbnails-bulk")
COMMAND_SECONDS = 300.0


def database_url(site_url: str, name: str) -> str:
    """The URL of another database, such as Django's test database, beside the one of `site_url`."""
    if site_url.startswith("sqlite:"):
        return f"sqlite:///{name}"
    return urlsplit(site_url)._replace(path=f"/{quote(name, safe='')}").geturl()


def run_command(
    arguments: Iterable[object], environment: Mapping[str, str], *, answer: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with these arguments to its end, its questions answered with `answer`."""
    command = ["manage.py", *map(str, arguments)]
    with TemporaryFile() as stdin, TemporaryFile() as output, TemporaryFile() as errors:
        stdin.write(answer.encode())
        stdin.seek(0)
        process = warm.start(command, env=environment, stdin=stdin, output=output, errors=errors)
        try:
            status = process.wait(COMMAND_SECONDS)
        finally:
            process.kill()
        said = [_read(file) for file in (output, errors)]
    return subprocess.CompletedProcess(command, status, *said)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def call_command(
    name: str,
    arguments: Iterable[object],
    *,
    answer: str = "",
    stdin: io.StringIO | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run this command of the app's in this process, as `manage.py` does; returns the same.

    Its questions are answered with `answer`, which comes from no terminal, or by `stdin`.

    A process of its own takes a second more.
    """
    command = ["manage.py", name, *map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    status: str | int | None = 0
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        patch.object(sys, "stdin", stdin or io.StringIO(answer)),
    ):
        try:
            load_command_class("thumbnails", name).run_from_argv(command)
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(command, status, output.getvalue(), errors.getvalue())


class Process(Protocol):
    """A subprocess.Popen, or a WarmProcess."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    def kill(self) -> None: ...


def start_python(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, cold: bool = False
) -> Process:
    """Start Python in ROOT with these arguments, in a session of its own."""
    with log.open("wb") as output:
        if not cold:
            return warm.start(command, env=environment, output=output, new_session=True)
        return lifeline.start(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            output=output,
            new_session=True,
        )


class Session:
    """A `manage.py` that runs beside the test, and the processes that it forks.

    A `cold` one is a new Python from its first moment; the others have imported much already.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        environment: Mapping[str, str],
        log: Path,
        *,
        cold: bool = False,
    ) -> None:
        self._log = log
        # Some that it forks leave its process group, but none its session.
        self._process = start_python(
            ["manage.py", *map(str, arguments)], environment, log, cold=cold
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def forked(self) -> list[psutil.Process]:
        """The living processes that it forked, also those that it has left behind."""
        return [process for process in self._session() if process.pid != self.pid]

    def wait(self) -> int:
        """Return its exit status once it has ended by itself."""
        return self._process.wait(COMMAND_SECONDS)

    def stop(self) -> int:
        """Ask it to end in good order, and return its exit status when it has."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill_alone(self) -> None:
        """End it at once and leave behind what it forked."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it and what it forked at once, as kill -9 and a power cut do."""
        # The parent first: it would fork another one.
        self.kill_alone()
        for process in self.forked():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_for(lambda: not self.forked(), "the end of the processes that it forked")

    def _session(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _in_session(process, self.pid)]


class Worker(Session):
    """A `manage.py rqworker` and the work horses that it forks."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        queues: Sequence[str] = QUEUES,
        *,
        cold: bool = False,
    ) -> None:
        self.name = f"test-{uuid.uuid4().hex}"
        self._redis_url = environment["REDIS_URL"]
        # The checks import all pages, which takes as long as the rest of the start.
        options = ["--name", self.name, "--skip-checks"]
        super().__init__(["rqworker", *queues, *options], environment, log, cold=cold)

    def wait_until_ready(self) -> None:
        """Return when it takes jobs. Raises RuntimeError with its log where it ended before."""
        wait_for(lambda: not self.running or self._registered(), "the worker to begin")
        if not self.running:
            raise RuntimeError(f"the worker ended at its start:\n{self.log}")

    def horses(self) -> list[psutil.Process]:
        """The processes that run its jobs, also those that it has left behind."""
        return self.forked()

    def _registered(self) -> bool:
        with redis.Redis.from_url(self._redis_url) as client:
            return bool(client.exists(f"rq:worker:{self.name}"))


def _in_session(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and is_alive(process)
    except (ProcessLookupError, PermissionError):
        return False

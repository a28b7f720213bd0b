"""The site's own processes as tests start them: `manage.py` commands and RQ workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import redis

from tests import lifeline
from tests.waiting import is_alive, wait_for

ROOT = Path(__file__).resolve().parent.parent
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
    return subprocess.run(
        [sys.executable, "manage.py", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        input=answer,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


class Worker:
    """A `manage.py rqworker` and the work horses that it forks: one session of processes."""

    def __init__(
        self, environment: Mapping[str, str], log: Path, queues: Sequence[str] = QUEUES
    ) -> None:
        self.name = f"test-{uuid.uuid4().hex}"
        self._log = log
        command = [sys.executable, "manage.py", "rqworker", *queues, "--name", self.name]
        with log.open("wb") as output:
            # Horses leave the worker's process group, but not its session.
            self._process = lifeline.start(
                command, cwd=ROOT, env=environment, output=output, new_session=True
            )
        self._redis_url = environment["REDIS_URL"]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Return when it takes jobs. Raises RuntimeError with its log where it ended before."""
        wait_for(lambda: not self.running or self._registered(), "the worker to begin")
        if not self.running:
            raise RuntimeError(f"the worker ended at its start:\n{self.log}")

    def horses(self) -> list[psutil.Process]:
        """The processes that run its jobs, also those that it has left behind."""
        return [process for process in self._session() if process.pid != self.pid]

    def stop(self) -> None:
        """Ask it to end when the job at hand is done, and wait for that."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(COMMAND_SECONDS)

    def kill(self) -> None:
        """End it and its horses at once, as kill -9 and a power cut do."""
        # The worker first: it would fork another horse.
        self._process.kill()
        self._process.wait()
        for horse in self.horses():
            with contextlib.suppress(psutil.NoSuchProcess):
                horse.kill()
        wait_for(lambda: not self.horses(), "the end of the worker's horses")

    def _registered(self) -> bool:
        with redis.Redis.from_url(self._redis_url) as client:
            return bool(client.exists(f"rq:worker:{self.name}"))

    def _session(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _in_session(process, self.pid)]


def _in_session(process: psutil.Process, session: int) -> bool:
    try:
        return is_alive(process) and os.getsid(process.pid) == session
    except (ProcessLookupError, PermissionError):
        return False

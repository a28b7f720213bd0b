"""gunicorn with the site, clients that cost little, as they share the machine, and its workers."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection
from typing import Self

import psutil
import redis

from benchmarks.site import ROOT, NothingToMeasure
from tests import lifeline
from tests.waiting import wait_for

THREADS = 8
"""Per process, as in the Procfile, which starts two."""
ANSWER_SECONDS = 120.0


class WebServer:
    """gunicorn as in the Procfile, at a port chosen by the system."""

    def __init__(self, environment: dict[str, str], log: Path, *, processes: int = 1) -> None:
        self._log = log
        how = ["--bind", "127.0.0.1:0", "--worker-class", "gthread", "--workers", str(processes)]
        how += ["--threads", str(THREADS), "--graceful-timeout", "3", "--no-control-socket"]
        with log.open("wb") as output:
            self._program = lifeline.start(
                [sys.executable, "-m", "gunicorn", "thumbsite.wsgi", *how],
                cwd=ROOT,
                env=environment,
                output=output,
            )
        self._master = psutil.Process(self._program.pid)

    def __enter__(self) -> Self:
        try:
            listening = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
            wait_for(lambda: listening.search(self._said) or not self._is_running, "gunicorn")
            found = listening.search(self._said)
            if found is None:
                raise NothingToMeasure(f"gunicorn did not start:\n{self._said[-2000:]}")
            self.port = int(found[1])
            with Client(self.port) as client:
                client.expect(HTTPStatus.OK, "/")
            self.worker, *_ = self._master.children()
            """The only one, of one process."""
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def _said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def _is_running(self) -> bool:
        return self._program.poll() is None

    def _end(self) -> None:
        with suppress(psutil.NoSuchProcess):
            started = self._master.children(recursive=True)
            self._program.terminate()
            self._program.wait()
            for process in started:  # a busy decoder does not notice that its parent has died
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a response, whose body was read, too."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""


class Client:
    """A minimal client with one persistent connection: it shares the machine with the server."""

    def __init__(self, port: int) -> None:
        self._socket = create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self._socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, request: bytes) -> Answer:
        """Send a request. Returns the head of its answer."""
        return self._exchange(request)[0]

    def read(self, path: str) -> str:
        """Returns a page. Raises NothingToMeasure for another status than 200."""
        answer, content = self._exchange(request_for(path))
        if answer.status != HTTPStatus.OK:
            raise NothingToMeasure(f"{path} answers {answer.status}.")
        return content.decode()

    def _exchange(self, request: bytes) -> tuple[Answer, bytes]:
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._received()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        answer = Answer(
            int(status.split()[1]),
            {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)},
        )
        length = 0 if answer.status == HTTPStatus.NOT_MODIFIED else _length(answer)
        while len(body) < length:
            body += self._received()
        return answer, body

    def expect(self, status: HTTPStatus, path: str, **headers: str) -> Answer:
        """Send a request. Raises NothingToMeasure for a response with another status."""
        answer = self.get(request_for(path, headers))
        if answer.status != status:
            raise NothingToMeasure(f"{path} answers {answer.status} instead of {status.value}.")
        return answer

    def _received(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise NothingToMeasure("The web server closed a connection in the middle of an answer.")
        return part


def request_for(path: str, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: testserver"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _length(answer: Answer) -> int:
    if "content-length" not in answer.headers:
        raise NothingToMeasure("The web server does not say how long its answer is.")
    return int(answer.headers["content-length"])


def ask_once(port: int, path: str) -> int:
    """The status of a response over a new connection."""
    with Client(port) as client:
        return client.get(request_for(path)).status


def workers_are_idle(client: redis.Redis) -> bool:
    """Whether there are workers and all wait for jobs."""
    states = [client.hget(key, "state") for key in client.smembers("rq:workers")]
    return bool(states) and set(states) == {b"idle"}

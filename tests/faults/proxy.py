"""A bad line to PostgreSQL: what clients commit arrives, or not, and they are not told which."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from enum import Enum
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

_PORT_FILE = ".s.PGSQL.5432"
_QUERY, _READY = b"Q", b"Z"


class Cut(Enum):
    """When the line breaks."""

    BEFORE_COMMIT = "before"
    """The server never gets it, and rolls back."""
    AFTER_COMMIT = "after"
    """The server has done it, and its answer is lost."""


class Proxy:
    """Stands in front of a PostgreSQL that listens at a Unix socket; `url` leads through it.

    Knows the protocol's framing (PostgreSQL's documentation, "Message Formats") and no more.
    """

    def __init__(self, folder_of_server: Path) -> None:
        self._server = folder_of_server / _PORT_FILE
        # A Unix socket's path has room for about a hundred letters.
        self.folder = Path(tempfile.mkdtemp(prefix="proxy-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._commits = self._every = self._cuts_left = 0
        self._cut = Cut.AFTER_COMMIT
        self.cuts = 0
        """How many commits were hit up to now."""

    def __enter__(self) -> Self:
        self._listener.bind(str(self.folder / _PORT_FILE))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for end in self._open:
                _shut(end)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, url: str) -> str:
        """The URL of the same database, through here."""
        user, _, _ = urlsplit(url).netloc.rpartition("@")
        host = quote(str(self.folder), safe="")
        return urlsplit(url)._replace(netloc=f"{user}@{host}").geturl()

    def cut_each(self, number: int, cut: Cut, *, times: int) -> None:
        """Break the line at every `number`th commit from now on, `times` times."""
        with self._lock:
            self._every, self._cut, self._cuts_left, self._commits = number, cut, times, 0

    # --- Both directions --------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                with self._lock:
                    self._open |= {client, server}
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        answers = _Answers(client, server)
        back = threading.Thread(target=answers.forward, daemon=True)
        back.start()
        with contextlib.suppress(OSError, EOFError):
            server.sendall(_read_startup(client))
            while True:
                kind, message = _read_message(client)
                cut = self._whether_to_cut(kind, message)
                if cut == Cut.BEFORE_COMMIT:
                    break
                if cut == Cut.AFTER_COMMIT:
                    answers.swallow()
                    server.sendall(message)
                    answers.swallowed.wait()
                    break
                server.sendall(message)
        for end in (client, server):
            _shut(end)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _whether_to_cut(self, kind: bytes, message: bytes) -> Cut | None:
        if kind != _QUERY or message[5:].rstrip(b"\0; ").upper() != b"COMMIT":
            return None
        with self._lock:
            self._commits += 1
            if not self._cuts_left or self._commits % self._every:
                return None
            self._cuts_left -= 1
            self.cuts += 1
            return self._cut


class _Answers:
    """What the server says, message by message, to the client, or lost."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server
        self._swallows = threading.Event()
        self.swallowed = threading.Event()
        """Set when the server has given the answer that is lost, or has gone."""

    def swallow(self) -> None:
        self._swallows.set()

    def forward(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, message = _read_message(self._server)
                if not self._swallows.is_set():
                    self._client.sendall(message)
                elif kind == _READY:
                    break
        self.swallowed.set()
        if not self._swallows.is_set():
            _shut(self._client)


def _read_startup(client: socket.socket) -> bytes:
    """The first message, which alone has no letter for its kind."""
    length = _read(client, 4)
    return length + _read(client, int.from_bytes(length) - 4)


def _read_message(end: socket.socket) -> tuple[bytes, bytes]:
    """The next message's kind, and the message as a whole. Raises EOFError where there is none."""
    head = _read(end, 5)
    return head[:1], head + _read(end, int.from_bytes(head[1:]) - 4)


def _read(end: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = end.recv(min(length, 65_536))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

"""Processes of the site that start at once: forked off one that has imported what they need.

Importing other people's packages takes four fifths of a command's start. The site's settings and
all that depends on them, the app too, each process imports anew: with its own environment. What
Python looks at before it runs any program, such as PYTHONPATH, only the processes heed that it
starts in turn.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests import lifeline

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("django.core.management", "django.core.serializers.json", "django.core.files.storage"),
    *("django.db.backends.postgresql.base", "django.db.backends.sqlite3.base"),
    *(
        "django.db.migrations.executor",
        "django.db.models",
        "django.forms",
        "django.template.loader",
    ),
    *("django.views.decorators.http", "django.views.generic", "django.middleware.csrf"),
    *("PIL.Image", "gunicorn.app.wsgiapp", "gunicorn.workers.gthread", "pydantic", "redis", "rq"),
    *("rq.command", "rq.registry", "rq.scheduler", "rq.worker", "tqdm", "whitenoise.middleware"),
    "thumbnails.rendering.pool",
)
"""What needs no settings."""


class WarmProcess:
    """Like a subprocess.Popen."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._status: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            if self._status is None:
                if not select.select([self._channel], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
                with self._channel.makefile() as said:
                    self._status = int(said.readline() or -signal.SIGKILL)
                self._channel.close()
            return self._status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    stdin: IO[bytes] | None = None,
    new_session: bool = False,
) -> WarmProcess:
    """Start Python in ROOT with these arguments: a script's, or those of `-m` and a module.

    It ends with this process. Errors go to `output` unless `errors` is given.
    """
    ours, theirs = socket.socketpair()
    request = {
        "command": [*command],
        "env": {**env},
        "new_session": new_session,
        "umask": _umask(),
    }
    with open(os.devnull, "rb") as nothing, theirs:  # noqa: PTH123
        files = [stdin or nothing, output, errors or output]
        forker = _forker()
        with forker.lock:
            descriptors = [theirs.fileno(), *(file.fileno() for file in files)]
            socket.send_fds(forker.control, [b"+"], descriptors)
    ours.sendall(json.dumps(request).encode() + b"\n")
    pid = b""
    while not pid.endswith(b"\n"):
        part = ours.recv(1)
        if not part:
            raise RuntimeError("the process that starts others has ended")
        pid += part
    return WarmProcess(int(pid), ours)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class _Forker:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.control, theirs = socket.socketpair()
        with theirs:
            self._process = lifeline.start(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                cwd=ROOT,
                new_session=True,  # Ctrl-C at a terminal is for this process alone
                pass_fds=[theirs.fileno()],
            )

    def end(self) -> None:
        self.control.close()
        self._process.wait()


@cache
def _forker() -> _Forker:
    """To be started by the thread that lives for longest: its end would be that of all."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the first process of the tests' own must be started by the main thread")
    forker = _Forker()
    atexit.register(forker.end)
    return forker


# --- In the process that forks others -------------------------------------------------------------


def _serve(control: socket.socket) -> None:
    """Returns in each process that was started, as it is to run its program."""
    children: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_ends(children)
        if control.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 4)
            if not message:
                sys.exit()
            channel = socket.socket(fileno=descriptors[0])
            forker = os.getpid()
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (control, *children.values()):
                    other.close()
                os.close(woken)
                os.close(wake)
                _prepare(forker, channel, descriptors[1:])
                return
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            children[pid] = channel
            channel.sendall(f"{pid}\n".encode())


def _tell_ends(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with children.pop(pid) as channel, contextlib.suppress(BrokenPipeError):
            channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _prepare(forker: int, channel: socket.socket, files: Sequence[int]) -> None:
    with channel, channel.makefile() as lines:
        request: dict[str, Any] = json.loads(lines.readline())
    if request["new_session"]:
        os.setsid()
    lifeline.end_with(forker, signal.SIGKILL)
    for target, descriptor in enumerate(files):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = request["command"]
    # In front of it is ROOT.
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


def _run() -> None:
    program, *arguments = sys.argv
    if program == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    for name in PACKAGES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each process would copy it all
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _run()

"""The supervisor, with shell commands in place of the site's processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from tests import lifeline
from tests.processes import ROOT
from tests.waiting import PATIENCE_SECONDS, is_alive, wait_for
from thumbsite.demo.supervisor import parse_counts

# Ends at SIGTERM, having noted that it did.
POLITE = "trap 'sleep {seconds}; echo {name} >> {notes}; exit' TERM; while :; do sleep 0.05; done"
# Has a work horse in a process group of its own, as an RQ worker has.
WITH_HORSE = """
import os, signal, time
if os.fork() == 0:
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""

RUN = """
import sys
from pathlib import Path
from thumbsite.demo import supervisor
supervisor.GRACE_SECONDS = (0.5, 0.5)
supervisor.Supervisor(supervisor.parse_counts(sys.argv[2:]), Path(sys.argv[1])).run()
"""


class Supervise(Protocol):
    def __call__(self, *counts: str, **commands: str) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def supervise(tmp_path: Path, output: Path) -> Iterator[Supervise]:
    """Run a supervisor over these commands, as many of each as `counts` says."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*counts: str, **commands: str) -> subprocess.Popen[bytes]:
        procfile = tmp_path / "Procfile"
        procfile.write_text("".join(f"{name}: {text}\n" for name, text in commands.items()))
        command = [sys.executable, "-c", RUN, str(procfile), *(counts or tuple(commands))]
        with output.open("wb") as file:
            started.append(lifeline.start(command, cwd=ROOT, output=file))
        return started[-1]

    yield run
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.fixture
def with_horse(tmp_path: Path) -> str:
    script = tmp_path / "with_horse.py"
    script.write_text(WITH_HORSE)
    return f"exec {sys.executable} {script}"


def descendants(process: subprocess.Popen[bytes], count: int) -> list[psutil.Process]:
    """The processes below the supervisor, once they are as many as this."""
    supervisor = psutil.Process(process.pid)
    wait_for(lambda: len(supervisor.children(recursive=True)) == count, f"{count} processes")
    return supervisor.children(recursive=True)


def test_parse_counts__is_one_without_a_number() -> None:
    assert parse_counts(["queue", "web", "worker=2"]) == {"queue": 1, "web": 1, "worker": 2}


def test_output__has_the_name_of_who_said_it(supervise: Supervise, output: Path) -> None:
    supervise("web", "worker=2", web="echo hello; sleep 600", worker="echo here; sleep 600")
    wait_for(lambda: output.read_text().count("here") == 2, "both workers")
    lines = [line.split(" ", 1)[1] for line in output.read_text().splitlines()]
    assert sorted(lines) == ["web      | hello", "worker.1 | here", "worker.2 | here"]


def test_death__is_made_good_by_another_start(supervise: Supervise, output: Path) -> None:
    supervise(web="echo hello $$; exec sleep 600", worker="echo once; exit 3")
    wait_for(lambda: output.read_text().count("once") == 2, "the second start")
    assert "ended with status 3; starts again in 1 s" in output.read_text()
    assert output.read_text().count("hello") == 1


def test_death__takes_along_what_was_left_behind(supervise: Supervise, with_horse: str) -> None:
    process = supervise(worker=with_horse)
    worker, horse = descendants(process, 2)
    worker.kill()
    wait_for(lambda: not is_alive(horse), "the end of the horse")


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Also where nohup started the tests: what they start would inherit its deafness."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hears_hangups")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal__ends_the_queue_last(
    supervise: Supervise, output: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    notes = tmp_path / "notes"
    process = supervise(
        queue="echo up; " + POLITE.format(name="queue", seconds=0, notes=notes),
        web="echo up; " + POLITE.format(name="web", seconds=0.2, notes=notes),
    )
    wait_for(lambda: output.read_text().count("up") == 2, "the start")
    process.send_signal(signum)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert notes.read_text().split() == ["web", "queue"]


def test_signal__comes_twice_to_who_goes_on(
    supervise: Supervise, output: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    once = f"echo first >> {notes}; trap 'echo second >> {notes}; exit' TERM"
    worker = f'trap "{once}" TERM; echo up; while :; do sleep 0.05; done'
    process = supervise(worker=worker)
    wait_for(lambda: "up" in output.read_text(), "the start")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert notes.read_text().split() == ["first", "second"]


def test_signal__ends_the_deaf_and_their_horses(supervise: Supervise, with_horse: str) -> None:
    process = supervise(worker=f"trap '' TERM; {with_horse}")
    both = descendants(process, 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    wait_for(lambda: not any(map(is_alive, both)), "the end of both")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_kill__ends_its_processes_too(supervise: Supervise) -> None:
    process = supervise(web="exec sleep 600")
    (child,) = descendants(process, 1)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(child), "the end of the process")

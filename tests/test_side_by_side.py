"""The suites at once, with shell commands in their place."""

from __future__ import annotations

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
from tests.processes import COMMAND_SECONDS, ROOT
from tests.waiting import is_alive, wait_for

RUN = """
import sys
from tests.side_by_side import run
commands = dict(argument.split("=", 1) for argument in sys.argv[1:])
sys.exit(run({name: ["sh", "-c", text] for name, text in commands.items()}))
"""
# Ends at SIGTERM, after some cleaning up; a second signal meanwhile would be noticed.
POLITE = """
trap 'trap "echo twice" INT TERM; sleep 0.5; echo cleaned up; exit 2' INT TERM
echo up
while :; do sleep 0.05; done
"""


class Start(Protocol):
    def __call__(self, **commands: str) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def start(output: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(**commands: str) -> subprocess.Popen[bytes]:
        named = [f"{name}={text}" for name, text in commands.items()]
        with output.open("wb") as file:
            started.append(
                lifeline.start(
                    [sys.executable, "-c", RUN, *named],
                    death_signal=signal.SIGTERM,
                    cwd=ROOT,
                    output=file,
                    new_session=True,
                )
            )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_lines__have_the_name_of_whose_they_are(start: Start, output: Path) -> None:
    process = start(
        one="printf 'first\\n\\nlast'", other="echo 'to stderr' >&2; printf ' \\342\\234\\223\\n'"
    )
    assert process.wait(COMMAND_SECONDS) == 0
    lines = output.read_text().splitlines()
    assert [line for line in lines if line.startswith("one")] == [
        "one   | first",
        "one   | ",
        "one   | last",
    ]
    assert [line for line in lines if line.startswith("other")] == [
        "other | to stderr",
        "other |  ✓",
    ]


@pytest.mark.parametrize(("one", "other"), [(0, 3), (3, 0)])
def test_status__is_bad_where_one_is(start: Start, output: Path, one: int, other: int) -> None:
    process = start(one=f"exit {one}", other=f"echo done; exit {other}")
    assert process.wait(COMMAND_SECONDS) == 3
    assert "done" in output.read_text()


@pytest.mark.parametrize(("one", "other", "status"), [(5, 0, 0), (5, 5, 5), (5, 3, 3)])
def test_status__of_one_without_tests_counts_where_no_other_has_any(
    start: Start, one: int, other: int, status: int
) -> None:
    process = start(one=f"exit {one}", other=f"exit {other}")
    assert process.wait(COMMAND_SECONDS) == status


def test_status__is_bad_where_one_is_killed(start: Start) -> None:
    assert start(one="kill -9 $$", other="exit 0").wait(COMMAND_SECONDS) != 0


SUMMARY = """
echo "FAILED to be a summary"
echo "===== short test summary info ====="
echo "SKIPPED [1] tests/test_one.py:1: no reason"
echo "FAILED tests/test_one.py::test_it - assert 1 == 2"
printf "\\033[31mERROR\\033[0m tests/test_two.py\\n"
echo "===== 1 failed, 1 error in 1.00s ====="
exit 1
"""


def test_end__says_once_more_what_failed_and_why(start: Start, output: Path) -> None:
    process = start(good="sleep 0.5; echo last", bad=SUMMARY, killed="echo at work; kill -9 $$")
    assert process.wait(COMMAND_SECONDS) == 1
    _, _, end = output.read_text().partition("good   | last\n")
    assert end == (
        "\nbad failed with status 1:\n"
        "FAILED tests/test_one.py::test_it - assert 1 == 2\n"
        "\x1b[31mERROR\x1b[0m tests/test_two.py\n"
        "\nkilled failed with status -9:\n"
        "at work\n"
    )


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_end__is_passed_on_once_and_waited_for(start: Start, output: Path, how: str) -> None:
    process = start(one=POLITE, other=POLITE)
    wait_for(lambda: output.read_text().count("up\n") == 2, "both")
    family = psutil.Process(process.pid).children(recursive=True)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    assert process.wait(COMMAND_SECONDS) == 2
    lines = sorted(output.read_text().splitlines())
    assert [line for line in lines if " | " in line and "| up" not in line] == [
        "one   | cleaned up",
        "other | cleaned up",
    ]
    assert not any(map(is_alive, family))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_kill__ends_them_too(start: Start, output: Path) -> None:
    process = start(one=POLITE, other=POLITE)
    wait_for(lambda: output.read_text().count("up\n") == 2, "both")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    wait_for(lambda: not any(map(is_alive, family)), "the end of both")

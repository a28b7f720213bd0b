"""Waiting for what may hang: its result and its error in time, and nothing that stays behind."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import NoReturn, TypeVar

import pytest

from tests.processes import COMMAND_SECONDS, ROOT
from tests.programs import program
from tests.waiting import PATIENCE_SECONDS, wait_for
from thumbnails.storage import deadlines

T = TypeVar("T")

PLACE = "originals"
BRIEFLY = 0.02
"""For what does not end before it is told to."""


def within(
    seconds: float, act: Callable[[], T], *, discard: Callable[[T], None] | None = None
) -> T:
    return deadlines.within(seconds, act, place=PLACE, discard=discard)


class Hanging:
    """What returns 42 when it is told to, and not before."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._may_end = threading.Event()

    def __call__(self) -> int:
        self.begun.set()
        assert self._may_end.wait(PATIENCE_SECONDS)
        return 42

    def end(self) -> None:
        self._may_end.set()


@pytest.fixture
def hanging() -> Iterator[Callable[[], Hanging]]:
    made: list[Hanging] = []

    def make() -> Hanging:
        made.append(Hanging())
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_within__gives_what_it_returns_or_raises() -> None:
    assert within(PATIENCE_SECONDS, lambda: 42) == 42
    assert within(PATIENCE_SECONDS, lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        within(PATIENCE_SECONDS, lambda: 1 / 0)


def test_within__gives_a_time_out_of_its_own_as_it_is() -> None:
    def disk_does_not_answer() -> NoReturn:
        raise TimeoutError("of the disk")

    with pytest.raises(TimeoutError, match="of the disk"):
        within(PATIENCE_SECONDS, disk_does_not_answer)


def test_within__passes_on_what_ends_a_thread() -> None:
    def leave() -> NoReturn:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        within(PATIENCE_SECONDS, leave)
    assert within(PATIENCE_SECONDS, lambda: 42) == 42


def test_within__gives_up_on_what_hangs_and_discards_what_comes_late(
    hanging: Callable[[], Hanging],
) -> None:
    act = hanging()
    late: list[int] = []
    with pytest.raises(TimeoutError):
        within(BRIEFLY, act, discard=late.append)
    assert late == []
    act.end()
    wait_for(lambda: late == [42], "the late result")


def test_within__discards_no_error(hanging: Callable[[], Hanging]) -> None:
    gate, late = hanging(), hanging()
    seen: list[int] = []

    def fail() -> int:
        gate()
        raise ValueError

    with pytest.raises(TimeoutError):
        within(BRIEFLY, fail, discard=seen.append)
    gate.end()
    with pytest.raises(TimeoutError):
        within(BRIEFLY, late, discard=seen.append)
    late.end()
    wait_for(lambda: seen, "the late result")
    assert seen == [42]


def test_within__does_other_things_while_one_hangs(hanging: Callable[[], Hanging]) -> None:
    with pytest.raises(TimeoutError):
        within(BRIEFLY, hanging())
    for number in range(20):
        assert within(PATIENCE_SECONDS, partial(abs, number)) == number


def test_within__begins_nothing_where_too_many_hang(
    hanging: Callable[[], Hanging], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "_hanging", {})
    monkeypatch.setattr(deadlines, "HANGING_AT_MOST", 2)
    acts = [hanging(), hanging()]
    for act in acts:
        with pytest.raises(TimeoutError):
            within(BRIEFLY, act)
        assert act.begun.wait(PATIENCE_SECONDS)
    third = hanging()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            within(PATIENCE_SECONDS, third)
        with pytest.raises(TimeoutError):
            deadlines.begin(third, place=PLACE)
        # Another storage is asked as ever.
        assert deadlines.within(PATIENCE_SECONDS, lambda: 42, place="thumbnails") == 42
    assert not third.begun.is_set()
    acts[0].end()

    def works_again() -> bool:
        try:
            return within(PATIENCE_SECONDS, lambda: True)
        except TimeoutError:
            return False

    wait_for(works_again, "the first one's end")


def test_helpers__are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers: list[threading.Thread] = []
    monkeypatch.setattr(deadlines, "_idle", helpers)
    threads: set[threading.Thread] = set()
    for _ in range(20):
        threads.add(within(PATIENCE_SECONDS, threading.current_thread))
        wait_for(lambda: helpers, "the helper to be idle")
    assert len(threads) == 1
    assert threads == set(helpers)


LEAVE_BEHIND = """
import threading
from thumbnails.storage.deadlines import within
try:
    within(0.02, threading.Event().wait, place="a disk")
except TimeoutError:
    print("ended")
"""

FORK = """
import os, threading
from thumbnails.storage import deadlines
from thumbnails.storage.deadlines import within
deadlines.HANGING_AT_MOST = 1
assert within(60, lambda: 42, place="a disk") == 42  # an idle helper, which no child has
try:
    within(0.02, threading.Event().wait, place="a disk")
except TimeoutError:
    pass
child = os.fork()
if child == 0:
    os._exit(0 if within(60, lambda: 42, place="a disk") == 42 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("ended")
"""


@pytest.mark.parametrize("text", [LEAVE_BEHIND, FORK], ids=["exit", "fork"])
def test_process__can_end_and_fork_with_helpers_that_hang(text: str) -> None:
    done = subprocess.run(
        program(text),
        cwd=ROOT,
        timeout=COMMAND_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr

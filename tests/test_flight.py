"""One at a time per thumbnail: threads, processes, and processes that are killed inside."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self

import pytest
from pytest_django import Settings

from tests.processes import COMMAND_SECONDS, ROOT
from tests.programs import environment, program
from tests.waiting import PATIENCE_SECONDS, wait_for
from thumbnails.cache import storage
from thumbnails.cache.flight import LOCKS, flight
from thumbnails.cache.layout import SHARDS, name_for

ASSET = 12345
A_MOMENT_SECONDS = 0.3
"""Long enough that whoever is not kept out is inside by then."""


class ThreadEntrant:
    """A thread that enters the flight as soon as it may, and leaves when it is told to."""

    def __init__(self, asset_id: int = ASSET) -> None:
        self._asset_id = asset_id
        self.is_alone = False
        """Whether nobody else is inside; to be asked of one who is."""
        self._inside, self._may_leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._fly, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def is_inside(self, within_seconds: float = PATIENCE_SECONDS) -> bool:
        return self._inside.wait(within_seconds)

    def leave(self) -> None:
        self._may_leave.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def _fly(self) -> None:
        with flight(self._asset_id) as self.is_alone:
            self._inside.set()
            self._may_leave.wait(PATIENCE_SECONDS)


ENTER_AND_WAIT = """
from thumbnails.cache.flight import flight
print("here", flush=True)
with flight(int(sys.argv[1])) as alone:
    assert alone
    print("inside", flush=True)
    sys.stdin.readline()  # which ends with the tests' own process too
"""


class ProcessEntrant:
    """A process that does the same."""

    def __init__(self, thumbnail_dir: Path, asset_id: int = ASSET) -> None:
        self._here, self._inside = threading.Event(), threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._process = subprocess.Popen(
            program(ENTER_AND_WAIT, asset_id),
            cwd=ROOT,
            env=environment(thumbnail_dir),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._listener.start()
        assert self._here.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._listener.join()
        with self._process:  # closes the pipes
            pass

    def is_inside(self, within_seconds: float = PATIENCE_SECONDS) -> bool:
        return self._inside.wait(within_seconds)

    def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_SECONDS) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            {"here": self._here, "inside": self._inside}[line.strip()].set()


# --- Keeping others out ---------------------------------------------------------------------------


def test_flight__lets_one_thread_in() -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            first.leave()
            assert second.is_inside()


def test_flight__lets_one_process_in(thumbnail_dir: Path) -> None:
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ThreadEntrant() as second, ProcessEntrant(thumbnail_dir) as third:
            assert not second.is_inside(A_MOMENT_SECONDS)
            assert not third.is_inside(0)
            first.leave()
            wait_for(lambda: second.is_inside(0) or third.is_inside(0), "one of the others")
            assert not (second.is_inside(0) and third.is_inside(0))


def test_flight__lets_other_thumbnails_pass(thumbnail_dir: Path) -> None:
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ThreadEntrant(ASSET + 1) as other:
            assert other.is_inside()
            assert other.is_alone


def test_flight__is_not_waited_for_longer_than_a_picture_may_take(settings: Settings) -> None:
    settings.THUMBNAIL_RENDER_SECONDS = 1
    with ThreadEntrant() as first:
        assert first.is_inside()
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            assert second.is_inside()
            assert not second.is_alone
        assert first.is_alone


COUNT = """
from pathlib import Path
from thumbnails.cache.flight import flight
counter = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with flight(int(sys.argv[3])):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_flight__keeps_many_from_treading_on_each_other(
    thumbnail_dir: Path, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(300):
            with flight(ASSET):
                counter.write_text(str(int(counter.read_text()) + 1))

    processes = [
        subprocess.Popen(
            program(COUNT, counter, 300, ASSET), cwd=ROOT, env=environment(thumbnail_dir)
        )
        for _ in range(3)
    ]
    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(COMMAND_SECONDS) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "1800"


# --- Leaving --------------------------------------------------------------------------------------


def test_flight__is_over_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), flight(ASSET):
        _ = 1 / 0
    with ThreadEntrant() as next_one:
        assert next_one.is_inside()


def test_flight__ends_with_a_killed_process(thumbnail_dir: Path) -> None:
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            first.kill()
            assert second.is_inside()


def test_flight__of_one_that_was_killed_while_it_waited_holds_nobody_up(
    thumbnail_dir: Path,
) -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        with ProcessEntrant(thumbnail_dir) as waiting:
            assert not waiting.is_inside(A_MOMENT_SECONDS)
            waiting.kill()
        first.leave()
    with ThreadEntrant() as next_one:
        assert next_one.is_inside()


# --- Locks ----------------------------------------------------------------------------------------


def test_flight__goes_on_when_the_cache_is_removed_meanwhile(thumbnail_dir: Path) -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        shutil.rmtree(thumbnail_dir)
        # At worst it works beside the first; it neither fails nor waits for what is gone.
        with ThreadEntrant() as second:
            assert second.is_inside()
            first.leave()
            with ThreadEntrant() as third:
                assert not third.is_inside(A_MOMENT_SECONDS)
                second.leave()
                assert third.is_inside()


def test_flight__goes_on_where_no_lock_can_be_made(thumbnail_dir: Path) -> None:
    thumbnail_dir.write_bytes(b"")
    with ThreadEntrant() as first:
        assert first.is_inside()


def test_flight__follows_no_link_in_place_of_a_lock(thumbnail_dir: Path, tmp_path: Path) -> None:
    with flight(ASSET):
        pass
    (lock,) = (thumbnail_dir / ".locks").iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with flight(ASSET):
        assert not (tmp_path / "elsewhere").exists()


def test_locks__are_not_one_for_each_asset(thumbnail_dir: Path) -> None:
    for asset_id in range(1, 2 * LOCKS):
        with flight(asset_id):
            pass
    assert len(list((thumbnail_dir / ".locks").iterdir())) == LOCKS


def test_locks__are_not_taken_for_thumbnails(thumbnail_dir: Path) -> None:
    with flight(ASSET):
        storage.write(name_for(ASSET), b"content")
    found = [file.name for shard in SHARDS for file in storage.walk(shard)]
    assert found == [name_for(ASSET)]


def test_locks__of_a_cache_elsewhere_lie_in_the_temporary_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "thumbnails": in_memory}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ThreadEntrant() as first:
        assert first.is_inside()
        assert list(tmp_path.glob("thumbnail-locks-*/*"))
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            first.leave()
            assert second.is_inside()

"""One at a time per thumbnail: threads, processes, and processes that are killed inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from pytest_django import Settings

from tests import permissions
from tests.processes import COMMAND_SECONDS, ROOT
from tests.programs import environment, program
from tests.waiting import PATIENCE_SECONDS, wait_for
from thumbnails.storage import thumbnails as storage
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import SHARDS, name_for

ASSET = 12345
A_MOMENT_SECONDS = 0.3
"""Long enough that one who is not kept out is inside by then."""


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where locks lie that the cache has no place for; the same for the test's processes."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def is_free(asset_id: int = ASSET) -> bool:
    with render_lock(asset_id, patience_seconds=0) as is_mine:
        return is_mine


class ThreadEntrant:
    """A thread that takes the lock as soon as it may, and leaves when it is told to."""

    def __init__(
        self, asset_id: int = ASSET, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._asset_id = asset_id
        self._patience_seconds = patience_seconds
        self.has_lock = False
        """To be asked of one that is inside."""
        self._inside, self._may_leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._enter, daemon=True)

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

    def _enter(self) -> None:
        with render_lock(self._asset_id, patience_seconds=self._patience_seconds) as self.has_lock:
            self._inside.set()
            self._may_leave.wait(PATIENCE_SECONDS)


ENTER_AND_WAIT = """
from thumbnails.storage.locks import render_lock
print("here", flush=True)
with render_lock(int(sys.argv[1]), patience_seconds=60) as is_mine:
    assert is_mine
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


def test_lock__lets_one_thread_in() -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            first.leave()
            assert second.is_inside()


def test_lock__lets_one_process_in(thumbnail_dir: Path) -> None:
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ThreadEntrant() as second, ProcessEntrant(thumbnail_dir) as third:
            assert not second.is_inside(A_MOMENT_SECONDS)
            assert not third.is_inside(0)
            first.leave()
            wait_for(lambda: second.is_inside(0) or third.is_inside(0), "one of the others")
            assert not (second.is_inside(0) and third.is_inside(0))


def test_lock__is_not_shared_with_other_thumbnails(thumbnail_dir: Path) -> None:
    """Neighbours, one that differs in its high bits alone, the smallest and the largest."""
    others = (ASSET - 1, ASSET + 1, ASSET + 2**32, 1, 2**63 - 2)
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ExitStack() as all_at_once:
            for asset_id in others:
                assert all_at_once.enter_context(render_lock(asset_id, patience_seconds=0))
            assert not is_free()


def test_lock__is_taken_once_in_a_thread_too() -> None:
    with render_lock(ASSET, patience_seconds=0) as is_mine:
        assert is_mine
        assert not is_free()
    assert is_free()


def test_lock__is_waited_for_no_longer_than_asked(thumbnail_dir: Path) -> None:
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ThreadEntrant(patience_seconds=0.05) as second:
            assert second.is_inside()
            assert not second.has_lock
        # Leaving what was not entered opens nothing.
        assert not is_free()
        first.leave()
    assert is_free()


COUNT = """
from pathlib import Path
from thumbnails.storage.locks import render_lock
counter = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with render_lock(int(sys.argv[3]), patience_seconds=300) as is_mine:
        assert is_mine
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_lock__keeps_many_from_treading_on_each_other(thumbnail_dir: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(50):
            with render_lock(ASSET, patience_seconds=COMMAND_SECONDS):
                counter.write_text(str(int(counter.read_text()) + 1))

    processes = [
        subprocess.Popen(
            program(COUNT, counter, 50, ASSET), cwd=ROOT, env=environment(thumbnail_dir)
        )
        for _ in range(3)
    ]
    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(COMMAND_SECONDS) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "300"


# --- Leaving --------------------------------------------------------------------------------------


def test_lock__is_released_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), render_lock(ASSET, patience_seconds=0):
        _ = 1 / 0
    assert is_free()


def test_lock__is_released_from_another_thread(thumbnail_dir: Path) -> None:
    """As when a request has given up on a picture that is rendered to its end."""
    held = ExitStack()
    assert held.enter_context(render_lock(ASSET, patience_seconds=0))
    with ProcessEntrant(thumbnail_dir) as other:
        assert not other.is_inside(A_MOMENT_SECONDS)
        thread = threading.Thread(target=held.close)
        thread.start()
        thread.join()
        assert other.is_inside()
        assert not is_free()
    assert is_free()


def test_lock__ends_with_a_killed_process(thumbnail_dir: Path) -> None:
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            first.kill()
            assert second.is_inside()


def test_lock__of_one_that_was_killed_while_it_waited_holds_up_no_other(
    thumbnail_dir: Path,
) -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        with ProcessEntrant(thumbnail_dir) as waiting:
            assert not waiting.is_inside(A_MOMENT_SECONDS)
            waiting.kill()
        first.leave()
    assert is_free()


def test_lock__of_one_asset_is_kept_when_another_is_released(thumbnail_dir: Path) -> None:
    """A process loses all its locks in a file when it closes that file anywhere."""
    with render_lock(ASSET, patience_seconds=0):
        for asset_id in range(1, 20):
            with render_lock(asset_id, patience_seconds=0) as is_mine:
                assert is_mine
        with ProcessEntrant(thumbnail_dir) as other:
            assert not other.is_inside(A_MOMENT_SECONDS)


FORK = """
import os
from thumbnails.storage.locks import render_lock

def tried():
    with render_lock(int(sys.argv[1]), patience_seconds=0) as is_mine:
        return is_mine

with render_lock(int(sys.argv[1]), patience_seconds=0):
    child = os.fork()
    if child == 0:
        locked_by_parent = not tried()
        with render_lock(1, patience_seconds=0) as own:
            pass
        os._exit(0 if locked_by_parent and own else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    # The child's end and what it closed took nothing from the parent.
    child = os.fork()
    if child == 0:
        os._exit(0 if not tried() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert tried()
"""


def test_lock__is_the_parent_s_after_a_fork(thumbnail_dir: Path) -> None:
    done = subprocess.run(
        program(FORK, ASSET),
        cwd=ROOT,
        env=environment(thumbnail_dir),
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0


# --- The lock file --------------------------------------------------------------------------------


def test_lock__goes_on_when_the_cache_is_removed_meanwhile(thumbnail_dir: Path) -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        shutil.rmtree(thumbnail_dir)
        # The threads of a process still know of each other.
        with ThreadEntrant() as second:
            assert not second.is_inside(A_MOMENT_SECONDS)
            first.leave()
            assert second.is_inside()
            # And other processes find a new file, whose locks count.
            with ProcessEntrant(thumbnail_dir) as third:
                assert not third.is_inside(A_MOMENT_SECONDS)
                second.leave()
                assert third.is_inside()
                assert not is_free()


def test_lock__of_a_removed_file_leaves_the_new_file_s_alone(thumbnail_dir: Path) -> None:
    with ThreadEntrant() as first:
        assert first.is_inside()
        shutil.rmtree(thumbnail_dir)
        with ProcessEntrant(thumbnail_dir) as second:  # at worst it works beside the first
            assert second.is_inside()
            first.leave()
            assert not is_free()


def put_file_in_place_of_the_cache(thumbnail_dir: Path) -> None:
    thumbnail_dir.write_bytes(b"")


def put_file_in_place_of_the_folder(thumbnail_dir: Path) -> None:
    thumbnail_dir.mkdir()
    (thumbnail_dir / ".locks").write_bytes(b"")


def put_folder_in_place_of_the_file(thumbnail_dir: Path) -> None:
    (thumbnail_dir / ".locks" / "renders").mkdir(parents=True)


def put_pipe_in_place_of_the_file(thumbnail_dir: Path) -> None:
    (thumbnail_dir / ".locks").mkdir(parents=True)
    os.mkfifo(thumbnail_dir / ".locks" / "renders")


def make_cache_read_only(thumbnail_dir: Path) -> None:
    thumbnail_dir.mkdir(mode=0o500)


def close_the_folder(thumbnail_dir: Path) -> None:
    """As one that another user has made."""
    (thumbnail_dir / ".locks").mkdir(parents=True)
    (thumbnail_dir / ".locks").chmod(0)


def close_the_file(thumbnail_dir: Path) -> None:
    (thumbnail_dir / ".locks").mkdir(parents=True)
    (thumbnail_dir / ".locks" / "renders").touch(mode=0o400)


def link_the_folder(place: Path) -> None:
    (place.parent / "elsewhere").mkdir()
    place.symlink_to(place.parent / "elsewhere")


def let_others_into_the_folder(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def let_others_into_the_file(place: Path) -> None:
    """Reading it is enough to lock it."""
    place.mkdir(mode=0o700)
    (place / "renders").touch()
    (place / "renders").chmod(0o604)


def give_the_file_away(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    place.mkdir(mode=0o700)
    (place / "renders").touch(mode=0o600)
    shutil.chown(place / "renders", "nobody")


LOCK_ALL = """
import fcntl, sys
file = open(sys.argv[1], "rb")
fcntl.lockf(file, fcntl.LOCK_SH)
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize(
    "obstruct",
    [link_the_folder, let_others_into_the_folder, let_others_into_the_file, give_the_file_away],
)
def test_lock__that_another_user_may_hold_is_not_used(
    thumbnail_dir: Path, own_temporary_folder: Path, obstruct: Callable[[Path], None]
) -> None:
    thumbnail_dir.mkdir()
    obstruct(thumbnail_dir / ".locks")
    file = thumbnail_dir / ".locks" / "renders"
    file.touch()
    holder = [sys.executable, "-c", LOCK_ALL, str(file)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert is_free()
        process.communicate()
    assert list(own_temporary_folder.glob("thumbnail-locks-*/*"))


def give_the_folder_away(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    place.mkdir(mode=0o700)
    shutil.chown(place, "nobody")


@pytest.mark.parametrize("obstruct", [let_others_into_the_folder, give_the_folder_away])
def test_lock__in_a_temporary_folder_of_others_keeps_out_the_threads(
    thumbnail_dir: Path, own_temporary_folder: Path, obstruct: Callable[[Path], None]
) -> None:
    put_file_in_place_of_the_folder(thumbnail_dir)
    obstruct(own_temporary_folder / f"thumbnail-locks-{os.geteuid()}")
    with ThreadEntrant() as first:
        assert first.is_inside()
        assert not is_free()
    assert is_free()
    assert list(own_temporary_folder.glob("*/*")) == []


@pytest.mark.parametrize(
    "obstruct",
    [
        put_file_in_place_of_the_cache,
        put_file_in_place_of_the_folder,
        put_folder_in_place_of_the_file,
        put_pipe_in_place_of_the_file,
        make_cache_read_only,
        close_the_folder,
        close_the_file,
    ],
)
def test_lock__that_has_no_place_in_the_cache_still_keeps_others_out(
    thumbnail_dir: Path, obstruct: Callable[[Path], None]
) -> None:
    obstruct(thumbnail_dir)
    with permissions.binding(), render_lock(ASSET, patience_seconds=0) as is_mine:
        assert is_mine
        assert not is_free()
    with permissions.binding():
        assert is_free()


def test_lock__that_has_no_place_in_the_cache_lies_in_the_temporary_folder(
    thumbnail_dir: Path, own_temporary_folder: Path
) -> None:
    put_file_in_place_of_the_folder(thumbnail_dir)
    with ProcessEntrant(thumbnail_dir) as first:
        assert first.is_inside()
        (folder,) = own_temporary_folder.glob("thumbnail-locks-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not is_free()
    assert is_free()


def test_lock__that_has_no_place_at_all_keeps_out_the_threads(
    thumbnail_dir: Path, own_temporary_folder: Path
) -> None:
    put_file_in_place_of_the_cache(thumbnail_dir)
    own_temporary_folder.rmdir()
    own_temporary_folder.write_bytes(b"")
    with ThreadEntrant() as first:
        assert first.is_inside()
        assert not is_free()
    assert is_free()


def test_lock__follows_no_link_in_place_of_its_file(thumbnail_dir: Path, tmp_path: Path) -> None:
    assert is_free()
    (lock,) = (thumbnail_dir / ".locks").iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with render_lock(ASSET, patience_seconds=0) as is_mine:
        assert is_mine
        assert not (tmp_path / "elsewhere").exists()


def test_locks__are_one_file_for_all_assets(thumbnail_dir: Path) -> None:
    for asset_id in range(1, 300):
        assert is_free(asset_id)
    (lock,) = (thumbnail_dir / ".locks").iterdir()
    assert lock.name == "renders"
    assert lock.stat().st_size == 0


def test_locks__are_not_taken_for_thumbnails(thumbnail_dir: Path) -> None:
    with render_lock(ASSET, patience_seconds=0):
        storage.write(name_for(ASSET), b"content")
    found = [file.name for shard in SHARDS for file in storage.walk(shard)]
    assert found == [name_for(ASSET)]
    assert storage.foreign_beside_shards() == []


def test_locks__of_a_cache_elsewhere_lie_in_the_temporary_folder(
    settings: Settings, own_temporary_folder: Path
) -> None:
    in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "thumbnails": in_memory}
    with ThreadEntrant() as first:
        assert first.is_inside()
        assert list(own_temporary_folder.glob("thumbnail-locks-*/*"))
        assert not is_free()
    assert is_free()

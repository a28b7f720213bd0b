"""The cache on disk: whole files or none, whatever happens to who writes them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from pytest_django import Settings

from tests import lifeline, permissions, pictures
from tests.processes import ROOT
from tests.programs import environment, output_of, program
from tests.waiting import wait_for
from thumbnails.exceptions import StorageFailure
from thumbnails.rendering import Recipe
from thumbnails.rendering.render import render
from thumbnails.storage import thumbnails as storage
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import name_for
from thumbnails.storage.thumbnails import LOCKS_FOLDER

NAME = name_for(12345)
SHARD, BASE = NAME.split("/")
OLD, NEW = b"old " * 100_000, b"newer " * 200_000
"""Of several chunks and of different sizes, so that a mixture or a part of one shows."""


@contextmanager
def permissions_bind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also in the threads that wait for the disk, which begin with the rights of this one."""
    others = set(threading.enumerate())
    helpers: list[threading.Thread] = []
    with permissions.binding(), monkeypatch.context() as patched:
        patched.setattr("thumbnails.storage.deadlines._idle", helpers)
        yield
        # None of them may go on in the next tests.
        wait_for(lambda: set(threading.enumerate()) - others <= set(helpers), "the helpers")


def hidden_files(folder: Path) -> list[str]:
    """What a write may have left behind."""
    return sorted(path.name for path in folder.rglob(".*"))


# --- Writing and reading --------------------------------------------------------------------------


def test_write__makes_shard_and_file(thumbnail_dir: Path) -> None:
    storage.write(NAME, OLD)
    assert (thumbnail_dir / "82" / "12345.jpg").read_bytes() == OLD
    assert storage.read(NAME) == OLD
    assert storage.size_bytes(NAME) == len(OLD)
    assert hidden_files(thumbnail_dir) == []


def test_write__replaces(thumbnail_dir: Path) -> None:
    for content in (OLD, NEW, OLD):
        storage.write(NAME, content)
        assert storage.read(NAME) == content
    assert [path.name for path in (thumbnail_dir / SHARD).iterdir()] == [BASE]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o077])
def test_write__makes_file_and_folders_that_web_servers_may_read(
    thumbnail_dir: Path, settings: Settings, umask: int
) -> None:
    cache = thumbnail_dir / "site" / "cache"
    storage_settings = settings.STORAGES["thumbnails"]
    options = {**storage_settings["OPTIONS"], "location": cache}
    settings.STORAGES = {
        **settings.STORAGES,
        "thumbnails": {**storage_settings, "OPTIONS": options},
    }
    before = os.umask(umask)
    try:
        with render_lock(12345, patience_seconds=0):  # it may be the first to make the folder
            storage.write(NAME, OLD)
    finally:
        os.umask(before)
    assert mode_of(cache / NAME) == 0o644
    folders = (thumbnail_dir, thumbnail_dir / "site", cache, cache / SHARD)
    assert [mode_of(folder) for folder in folders] == [0o755] * 4
    assert mode_of(cache / LOCKS_FOLDER) == 0o700


@pytest.mark.parametrize(
    ("alias", "file_mode", "folder_mode"),
    [("originals", 0o640, 0o750), ("default", 0o640, 0o750), ("staticfiles", 0o644, 0o755)],
)
def test_site__keeps_what_is_uploaded_from_other_users(
    tmp_path: Path, settings: Settings, alias: str, file_mode: int, folder_mode: int
) -> None:
    """What is public by nature is readable for a web server."""
    settings.MEDIA_ROOT, settings.STATIC_ROOT = tmp_path / "media", tmp_path / "static"
    store = storages[alias]
    before = os.umask(0o022)
    try:
        path = Path(store.path(store.save("2026/11/a", ContentFile(b"a"))))
    finally:
        os.umask(before)
    assert mode_of(path) == file_mode
    assert [mode_of(folder) for folder in (path.parent, path.parents[1])] == [folder_mode] * 2


def test_write__leaves_the_file_to_who_reads_the_old_one(thumbnail_dir: Path) -> None:
    storage.write(NAME, OLD)
    with (thumbnail_dir / NAME).open("rb") as file:
        start = file.read(1000)
        storage.write(NAME, NEW)
        assert start + file.read() == OLD


def test_cache__that_is_empty_has_nothing() -> None:
    assert storage.read(NAME) is None
    assert storage.size_bytes(NAME) is None
    assert storage.modified_at(NAME) is None
    assert list(storage.walk(SHARD)) == []


def test_modified_at__tells_when_it_was_written() -> None:
    before = time.time()
    storage.write(NAME, OLD)
    modified_at = storage.modified_at(NAME)
    assert modified_at is not None
    assert modified_at.tzinfo is not None
    # File systems keep time by a clock of coarser ticks.
    assert before - 1 <= modified_at.timestamp() <= time.time() + 1


def test_delete__removes_the_file(thumbnail_dir: Path) -> None:
    storage.write(NAME, OLD)
    storage.delete(NAME)
    assert not (thumbnail_dir / NAME).exists()


def test_delete__of_a_missing_one_is_no_error(thumbnail_dir: Path) -> None:
    storage.delete(NAME)
    (thumbnail_dir / SHARD).mkdir(parents=True)
    storage.delete(NAME)


def test_save__takes_a_file_of_unknown_name_and_place() -> None:
    """As other code of Django's may use the storage."""
    assert storage.storage().save(NAME, ContentFile(OLD)) == NAME
    assert storage.storage().save(NAME, ContentFile(NEW)) == NAME
    assert storage.read(NAME) == NEW


# --- A reader at the same time --------------------------------------------------------------------


def test_reader__never_sees_a_part(thumbnail_dir: Path) -> None:
    storage.write(NAME, OLD)
    seen: dict[bytes, int] = {}
    ended = threading.Event()

    def read_all_the_while() -> None:
        while not ended.is_set():
            content = (thumbnail_dir / NAME).read_bytes()
            seen[content] = seen.get(content, 0) + 1

    reader = threading.Thread(target=read_all_the_while)
    reader.start()
    try:
        for _ in range(50):
            storage.write(NAME, NEW)
            storage.write(NAME, OLD)
        # Both were there to be seen: the reader did read in between.
        wait_for(lambda: OLD in seen, "the reader to have read")
    finally:
        ended.set()
        reader.join()
    assert seen.keys() <= {OLD, NEW}, [len(content) for content in seen]


def test_writers__at_once_leave_one_of_their_files(thumbnail_dir: Path) -> None:
    contents = [bytes([number]) * (300_000 + number) for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(10):
            storage.write(NAME, content)

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read(NAME) in contents
    assert hidden_files(thumbnail_dir) == []


# --- Stamps and wholeness -------------------------------------------------------------------------


def test_load__tells_stamp_wholeness_and_time(thumbnail_dir: Path) -> None:
    assert storage.load(NAME) is None
    content = render(
        BytesIO(pictures.jpeg()), Recipe(), fingerprint="0123456789abcdef", max_pixels=10**6
    ).content
    storage.write(NAME, content)
    found = storage.load(NAME)
    assert found is not None
    assert (found.content, found.stamp, found.is_whole) == (content, "0123456789abcdef", True)
    assert found.modified_at == (thumbnail_dir / NAME).stat().st_mtime
    for other, is_whole in ((pictures.jpeg(), True), (content[:-1], False), (b"", False)):
        storage.write(NAME, other)
        found = storage.load(NAME)
        assert found is not None
        assert (found.stamp, found.is_whole) == (None, is_whole)


# --- Writes that fail -----------------------------------------------------------------------------

WRITE_OVER_A_QUOTA = """
from thumbnails.storage import thumbnails as storage
import resource
from thumbnails.exceptions import StorageFailure
name, size, quota = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (quota, quota))
try:
    storage.write(name, b"x" * size)
except StorageFailure as error:
    print(error)
"""


@pytest.mark.parametrize("quota_bytes", [0, 1, 70_000, 199_999])
def test_write__that_fails_half_way_leaves_the_old_file(
    thumbnail_dir: Path, quota_bytes: int
) -> None:
    storage.write(NAME, OLD)
    said = output_of(thumbnail_dir, WRITE_OVER_A_QUOTA, NAME, 200_000, quota_bytes)
    assert said == f"The thumbnail {NAME} cannot be written: File too large.\n"
    assert storage.read(NAME) == OLD
    assert hidden_files(thumbnail_dir) == []


def test_write__that_fails_half_way_leaves_nothing(thumbnail_dir: Path) -> None:
    assert NAME in output_of(thumbnail_dir, WRITE_OVER_A_QUOTA, NAME, 200_000, 70_000)
    assert list((thumbnail_dir / SHARD).iterdir()) == []


WRITE_FOR_EVER = """
from thumbnails.storage import thumbnails as storage
old, new = b"old " * 100_000, b"newer " * 200_000
print("ready", flush=True)
while True:
    storage.write(sys.argv[1], new)
    storage.write(sys.argv[1], old)
"""


def test_write__that_is_killed_leaves_old_bytes_or_new_ones(thumbnail_dir: Path) -> None:
    storage.write(NAME, OLD)
    for number in range(8):
        process = lifeline.start(
            program(WRITE_FOR_EVER, NAME),
            cwd=ROOT,
            env=environment(thumbnail_dir),
            output=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.02 + 0.011 * number)
            process.kill()
            process.wait()
        assert storage.read(NAME) in (OLD, NEW)
    # What the killed ones left is not in the way.
    assert [found.name for found in storage.walk(SHARD)] == [NAME]
    storage.write(NAME, NEW)
    assert storage.read(NAME) == NEW


def file_for_the_cache(thumbnail_dir: Path) -> None:
    thumbnail_dir.write_bytes(b"")


def file_for_the_shard(thumbnail_dir: Path) -> None:
    thumbnail_dir.mkdir()
    (thumbnail_dir / SHARD).write_bytes(b"")


def folder_for_the_thumbnail(thumbnail_dir: Path) -> None:
    (thumbnail_dir / NAME / "full").mkdir(parents=True)


@pytest.mark.parametrize(
    "obstruct", [file_for_the_cache, file_for_the_shard, folder_for_the_thumbnail]
)
def test_write__with_something_in_the_way_names_the_thumbnail(
    thumbnail_dir: Path, obstruct: Callable[[Path], None]
) -> None:
    obstruct(thumbnail_dir)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be written: .+"):
        storage.write(NAME, OLD)
    assert hidden_files(thumbnail_dir) == []


@pytest.mark.parametrize("obstruct", [file_for_the_cache, file_for_the_shard])
def test_cache__behind_a_file_has_nothing(
    thumbnail_dir: Path, obstruct: Callable[[Path], None]
) -> None:
    obstruct(thumbnail_dir)
    assert storage.read(NAME) is None
    assert storage.size_bytes(NAME) is None
    assert storage.modified_at(NAME) is None
    assert list(storage.walk(SHARD)) == []
    storage.delete(NAME)


def pipe_for_the_thumbnail(thumbnail_dir: Path) -> None:
    (thumbnail_dir / SHARD).mkdir(parents=True)
    os.mkfifo(thumbnail_dir / NAME)


@pytest.mark.parametrize("obstruct", [folder_for_the_thumbnail, pipe_for_the_thumbnail])
def test_read__of_what_is_no_file_finds_none_and_waits_for_nothing(
    thumbnail_dir: Path, obstruct: Callable[[Path], None]
) -> None:
    obstruct(thumbnail_dir)
    assert storage.read(NAME) is None
    assert storage.load(NAME) is None


def test_delete__of_a_folder_names_the_thumbnail(thumbnail_dir: Path) -> None:
    folder_for_the_thumbnail(thumbnail_dir)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be deleted: .+"):
        storage.delete(NAME)


def test_write__into_a_read_only_folder_names_the_thumbnail(
    thumbnail_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(NAME, OLD)
    (thumbnail_dir / SHARD).chmod(0o500)
    with permissions_bind(monkeypatch):
        with pytest.raises(StorageFailure, match=f"{NAME} cannot be written: Permission denied"):
            storage.write(NAME, NEW)
        with pytest.raises(StorageFailure, match=f"{NAME} cannot be deleted: Permission denied"):
            storage.delete(NAME)
    assert storage.read(NAME) == OLD


def test_read__of_what_may_not_be_read_names_it(thumbnail_dir: Path) -> None:
    storage.write(NAME, OLD)
    (thumbnail_dir / NAME).chmod(0)
    with permissions.binding():
        with pytest.raises(StorageFailure, match=f"{NAME} cannot be read: Permission denied"):
            storage.read(NAME)
        (thumbnail_dir / SHARD).chmod(0)
        with pytest.raises(StorageFailure, match=f"{SHARD} cannot be listed: Permission denied"):
            list(storage.walk(SHARD))
    (thumbnail_dir / SHARD).chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, where even root makes no file")
def test_write__where_nobody_may_write_names_the_thumbnail(settings: Settings) -> None:
    thumbnails = {**settings.STORAGES["thumbnails"], "OPTIONS": {"location": "/proc/self"}}
    settings.STORAGES = {**settings.STORAGES, "thumbnails": thumbnails}
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be written: .+"):
        storage.write(NAME, OLD)


# --- The cache taken away -------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["", SHARD, NAME])
def test_write__comes_back_after_a_removal(thumbnail_dir: Path, gone: str) -> None:
    storage.write(NAME, OLD)
    subprocess.run(["/bin/rm", "-rf", thumbnail_dir / gone], check=True)
    assert storage.read(NAME) is None
    storage.write(NAME, NEW)
    assert storage.read(NAME) == NEW


# --- Walking --------------------------------------------------------------------------------------


def walked(shard: str) -> set[tuple[str, int, int]]:
    return {(file.name, file.asset_id, file.size_bytes) for file in storage.walk(shard)}


def test_walk__finds_the_thumbnails_of_a_shard_and_nothing_else(thumbnail_dir: Path) -> None:
    storage.write(NAME, b"12345")
    shard = thumbnail_dir / SHARD
    other = next(n for n in range(1, 10_000) if name_for(n).startswith(f"{SHARD}/"))
    storage.write(name_for(other), b"1")
    linked = next(n for n in range(other + 1, 10_000) if name_for(n).startswith(f"{SHARD}/"))
    (shard / f"{linked}.jpg").symlink_to(shard / BASE)
    folder = next(n for n in range(linked + 1, 10_000) if name_for(n).startswith(f"{SHARD}/"))
    (shard / f"{folder}.jpg").mkdir()
    for foreign in (
        ".12345.jpg.0123456789abcdef.tmp",
        "readme.txt",
        "1.jpg",
        "012345.jpg",
        "\udcff",
    ):
        (shard / foreign).write_bytes(b"foreign")
    (shard / "deeper").mkdir()
    (shard / "deeper" / BASE).write_bytes(b"foreign")
    assert walked(SHARD) == {(name_for(other), other, 1), (NAME, 12345, 5)}


def test_walk__passes_over_a_shard_that_is_a_link(thumbnail_dir: Path, tmp_path: Path) -> None:
    storage.write(NAME, b"12345")
    (thumbnail_dir / SHARD).rename(tmp_path / "elsewhere")
    (thumbnail_dir / SHARD).symlink_to(tmp_path / "elsewhere")
    assert walked(SHARD) == set()


def test_walk__passes_over_what_goes_meanwhile(thumbnail_dir: Path) -> None:
    ids = [n for n in range(1, 20_000) if name_for(n).startswith(f"{SHARD}/")][:20]
    for asset_id in ids:
        storage.write(name_for(asset_id), b"x")
    walk = storage.walk(SHARD)
    found = {next(walk).asset_id}
    going = set(ids[::2]) - found
    for asset_id in going:
        storage.delete(name_for(asset_id))
    found.update(file.asset_id for file in walk)
    assert found == set(ids) - going


@pytest.mark.parametrize("shard", ["", "8", "82/", "..", "G0", "AA", "820", "."])
def test_walk__takes_only_shards(shard: str) -> None:
    with pytest.raises(ValueError, match="is not a shard"):
        list(storage.walk(shard))


def test_walk__works_on_any_storage(settings: Settings) -> None:
    in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "thumbnails": in_memory}
    storage.write(NAME, b"12345")
    storage.write(f"{SHARD}/readme.txt", b"foreign")
    assert walked(SHARD) == {(NAME, 12345, 5)}
    assert walked("00") == set()
    storage.delete(NAME)
    storage.delete(NAME)
    assert storage.read(NAME) is None

"""The cache's folder on a machine with other users: whose it is, and what links in it lead to."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from tests.conftest import MakeAsset, Manage, RunCommand
from tests.processes import COMMAND_SECONDS, QUEUES, ROOT
from tests.programs import environment, program
from tests.servers import QueueServer
from thumbnails.exceptions import StorageFailure
from thumbnails.storage import thumbnails as storage
from thumbnails.storage.names import name_for
from thumbnails.upkeep.images import freshness, serving
from thumbnails.upkeep.reports.audit import audit

NAME = name_for(12345)
SHARD, BASE = NAME.split("/")
THEIRS, OURS = b"their bytes", b"our bytes"
NOBODY = 65534
"""Another user, where root runs the tests."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")

Spoil = Callable[[Path], None]


def give_away(path: Path) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, NOBODY, NOBODY, follow_symlinks=False)


def let_group_write(path: Path) -> None:
    path.chmod(0o775)


def let_everyone_write(path: Path) -> None:
    path.chmod(0o777)


def let_everyone_add(path: Path) -> None:
    path.chmod(0o1777)


UNSAFE = [
    pytest.param(give_away, "belongs to another user", marks=as_root, id="another user's"),
    pytest.param(let_group_write, "its group may write", id="group may write"),
    pytest.param(let_everyone_write, "everyone may write", id="everyone may write"),
    pytest.param(let_everyone_add, "everyone may write", id="everyone may add"),
]


def make_theirs(thumbnail_dir: Path) -> Path:
    """A cache with a picture that was put there beforehand."""
    file = thumbnail_dir / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(THEIRS)
    return file


def assert_refused(why: str) -> None:
    """Nothing is read from the cache, written into it or deleted in it."""
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be read: .*{why}"):
        storage.load(NAME)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be read: .*{why}"):
        storage.size_bytes(NAME)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be read: .*{why}"):
        storage.modified_at(NAME)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be written: .*{why}"):
        storage.write(NAME, OURS)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be deleted: .*{why}"):
        storage.delete(NAME)
    with pytest.raises(StorageFailure, match=f"^The shard {SHARD} cannot be listed: .*{why}"):
        list(storage.survey(SHARD))


# --- Whose it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", SHARD])
@pytest.mark.parametrize(("spoil", "why"), UNSAFE)
def test_folder__made_beforehand_is_not_used(
    spoil: Spoil, why: str, place: str, thumbnail_dir: Path
) -> None:
    file = make_theirs(thumbnail_dir)
    spoil(thumbnail_dir / place)
    assert_refused(why)
    assert file.read_bytes() == THEIRS
    assert [path.name for path in file.parent.iterdir()] == [BASE]


@pytest.mark.parametrize(("spoil", "why"), UNSAFE)
def test_folder__swapped_at_run_time_is_not_used(
    spoil: Spoil, why: str, thumbnail_dir: Path, tmp_path: Path
) -> None:
    storage.write(NAME, OURS)
    thumbnail_dir.rename(tmp_path / "moved")
    file = make_theirs(thumbnail_dir)
    spoil(thumbnail_dir)
    assert_refused(why)
    assert file.read_bytes() == THEIRS


def test_folder__is_made_for_its_user_alone_to_write(
    thumbnail_dir: Path, settings: Settings
) -> None:
    deep = thumbnail_dir / "a" / "b"
    move_cache(settings, deep)
    umask = os.umask(0)
    try:
        storage.write(NAME, OURS)
    finally:
        os.umask(umask)
    for folder in (thumbnail_dir, thumbnail_dir / "a", deep, deep / SHARD):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755, folder


def test_folder__of_ours_replaced_by_another_of_ours_is_used(
    thumbnail_dir: Path, tmp_path: Path
) -> None:
    storage.write(NAME, OURS)
    thumbnail_dir.rename(tmp_path / "moved")
    assert storage.read(NAME) is None
    make_theirs(thumbnail_dir)
    assert storage.read(NAME) == THEIRS


# --- The folders above ----------------------------------------------------------------------------


def move_cache(settings: Settings, folder: Path) -> None:
    thumbnails = {**settings.STORAGES["thumbnails"], "OPTIONS": {"location": folder}}
    settings.STORAGES = {**settings.STORAGES, "thumbnails": thumbnails}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """As /tmp: everyone may add to it, and remove what is their own."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.mark.parametrize("exists", [True, False])
def test_folder__below_one_where_everyone_may_rename_is_not_used(
    exists: bool, shared: Path, settings: Settings
) -> None:
    shared.chmod(0o777)
    move_cache(settings, shared / "ours" / "thumbnails")
    if exists:
        make_theirs(shared / "ours" / "thumbnails")
    with pytest.raises(StorageFailure, match="everyone may replace a folder above it"):
        storage.write(NAME, OURS)
    found = [path for path in shared.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in found] == ([THEIRS] if exists else [])
    assert (shared / "ours").exists() == exists


def test_cache__in_a_folder_that_is_not_safe_is_not_ready(thumbnail_dir: Path) -> None:
    storage.check_reachable()
    let_everyone_write(make_theirs(thumbnail_dir).parent.parent)
    with pytest.raises(StorageFailure, match="cannot be used: its folder is not safe"):
        storage.check_reachable()


def test_folder__in_one_as_tmp_is_used(shared: Path, settings: Settings) -> None:
    move_cache(settings, shared / "ours" / "thumbnails")
    storage.write(NAME, OURS)
    assert (shared / "ours" / "thumbnails" / NAME).read_bytes() == OURS


@as_root
def test_folder__below_another_user_s_in_one_as_tmp_is_not_used(
    shared: Path, settings: Settings
) -> None:
    theirs = shared / "theirs"
    theirs.mkdir()
    give_away(theirs)
    move_cache(settings, theirs / "thumbnails")
    with pytest.raises(StorageFailure, match="another user may replace a folder above it"):
        storage.write(NAME, OURS)
    assert list(theirs.iterdir()) == []


def test_folder__behind_a_link_of_ours_is_used(
    shared: Path, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "large disk").mkdir()
    (shared / "thumbnails").symlink_to("../large disk")
    move_cache(settings, shared / "thumbnails")
    storage.write(NAME, OURS)
    assert (tmp_path / "large disk" / NAME).read_bytes() == OURS


@as_root
@pytest.mark.parametrize("place", ["", "ours"])
def test_folder__behind_another_user_s_link_is_not_used(
    place: str, shared: Path, tmp_path: Path, settings: Settings
) -> None:
    """A link to a folder of ours that is not a cache, made at once where the cache was removed."""
    cache = shared / "thumbnails" / place
    move_cache(settings, cache)
    storage.write(NAME, OURS)
    (shared / "thumbnails").rename(tmp_path / "removed")
    private = tmp_path / "private"
    make_theirs(private / place)
    (shared / "thumbnails").symlink_to(private)
    give_away_link(shared / "thumbnails")
    assert_refused("another user may replace a folder above it")
    assert (private / place / NAME).read_bytes() == THEIRS


def give_away_link(link: Path) -> None:
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)


# --- Links inside ---------------------------------------------------------------------------------


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder of ours that is not a cache, with a file that is named like a thumbnail."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / BASE).write_bytes(THEIRS)
    return folder


def test_shard__that_is_a_link_is_not_entered(thumbnail_dir: Path, private: Path) -> None:
    thumbnail_dir.mkdir()
    (thumbnail_dir / SHARD).symlink_to(private)
    assert storage.load(NAME) is None
    assert storage.size_bytes(NAME) is None
    assert storage.modified_at(NAME) is None
    assert list(storage.survey(SHARD)) == []
    storage.delete(NAME)
    with pytest.raises(StorageFailure, match=f"^The thumbnail {NAME} cannot be written: "):
        storage.write(NAME, OURS)
    assert [path.name for path in private.iterdir()] == [BASE]
    assert (private / BASE).read_bytes() == THEIRS


def test_file__that_is_a_link_is_not_followed(thumbnail_dir: Path, private: Path) -> None:
    (thumbnail_dir / SHARD).mkdir(parents=True)
    (thumbnail_dir / NAME).symlink_to(private / BASE)
    assert storage.load(NAME) is None
    assert storage.size_bytes(NAME) is None
    assert storage.modified_at(NAME) is None
    storage.write(NAME, OURS)
    assert not (thumbnail_dir / NAME).is_symlink()
    assert storage.read(NAME) == OURS
    assert (private / BASE).read_bytes() == THEIRS


@as_root
def test_file__of_another_user_is_replaced(thumbnail_dir: Path) -> None:
    """It may have been put there while the folder was open to all."""
    file = make_theirs(thumbnail_dir)
    give_away(file)
    assert storage.load(NAME) is None
    assert storage.size_bytes(NAME) is None
    storage.write(NAME, OURS)
    assert storage.read(NAME) == OURS
    assert file.stat().st_uid == os.geteuid()


def test_delete__of_a_link_leaves_what_it_leads_to(thumbnail_dir: Path, private: Path) -> None:
    (thumbnail_dir / SHARD).mkdir(parents=True)
    (thumbnail_dir / NAME).symlink_to(private / BASE)
    storage.delete(NAME)
    assert not (thumbnail_dir / NAME).is_symlink()
    assert (private / BASE).read_bytes() == THEIRS


@pytest.mark.parametrize("name", ["../secret.jpg", "../../secret.jpg", "secret.jpg", "82/../../x"])
def test_name__that_leads_elsewhere_names_nothing(
    name: str, thumbnail_dir: Path, tmp_path: Path
) -> None:
    (thumbnail_dir / SHARD).mkdir(parents=True)
    for folder in (tmp_path, thumbnail_dir):
        (folder / "secret.jpg").write_bytes(THEIRS)
    assert storage.load(name) is None
    assert storage.size_bytes(name) is None
    storage.delete(name)
    with pytest.raises(StorageFailure):
        storage.write(name, OURS)
    for folder in (tmp_path, thumbnail_dir):
        assert (folder / "secret.jpg").read_bytes() == THEIRS


@pytest.mark.parametrize("what", ["shard", "file"])
def test_site__follows_no_link(
    what: str, make_asset: MakeAsset, client: Client, thumbnail_dir: Path, private: Path
) -> None:
    """A request, a purge and an audit with --fix."""
    asset = make_asset()
    content = serving.serve(asset).content
    asset.refresh_from_db()
    file = thumbnail_dir / asset.thumbnail_name
    secret = private / file.name
    link = file.parent if what == "shard" else file
    link.rename(thumbnail_dir.parent / "removed")
    secret.write_bytes(content)
    link.symlink_to(private if what == "shard" else secret)
    # The same bytes in a place where none may be read: what is served was rendered.
    served = client.get(asset.thumbnail_url)
    assert served.status_code == 200
    assert ("no-store" in served.headers["Cache-Control"]) == (what == "shard")
    assert audit(fix=True, allow_share=1.0).refusal == ""
    freshness.purge_now(asset.pk)
    assert secret.read_bytes() == content
    assert {path.name for path in private.iterdir()} == {BASE, secret.name}


def test_request__gets_nothing_from_a_swapped_folder(
    make_asset: MakeAsset, client: Client, thumbnail_dir: Path
) -> None:
    """Not even bytes that bear the stamp which the address names."""
    asset = make_asset()
    content = serving.serve(asset).content
    asset.refresh_from_db()
    assert client.get(asset.thumbnail_url).status_code == 200
    thumbnail_dir.rename(thumbnail_dir.parent / "removed")
    planted = thumbnail_dir / asset.thumbnail_name
    planted.parent.mkdir(parents=True)
    planted.write_bytes(content)
    let_everyone_write(thumbnail_dir)
    answer = client.get(asset.thumbnail_url)
    assert answer.status_code == 503
    assert "its folder is not safe" in answer.content.decode()
    assert str(thumbnail_dir) not in answer.content.decode()


# --- Other users of ours --------------------------------------------------------------------------

GROUP, WEB, WORKER = 54_321, 54_322, 54_323

AS_ANOTHER_USER = """
import os
from thumbnails.exceptions import StorageFailure
from thumbnails.storage import thumbnails as storage
from thumbnails.storage.locks import render_lock
user, name, content = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
storage.storage()
os.setgroups([54_321])
os.setgid(user)
os.setuid(user)
try:
    print(storage.read(name))
    storage.write(name, content)
    with render_lock(12345, patience_seconds=0) as is_mine:
        print(is_mine, flush=True)
        sys.stdin.readline()
except StorageFailure as error:
    print(error)
"""


class Another:
    """A process of another user: it reads the thumbnail, writes it, and keeps its lock."""

    def __init__(self, folder: Path, user: int, content: str, **settings: str) -> None:
        self._process = subprocess.Popen(
            program(AS_ANOTHER_USER, user, NAME, content),
            cwd=ROOT,
            env={**environment(folder), "TMPDIR": str(folder.parent / str(user)), **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate(timeout=COMMAND_SECONDS)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that all users may enter, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@as_root
def test_folder__of_a_group_is_shared_by_choice(public: Path) -> None:
    folder = public / "thumbnails"
    folder.mkdir()
    os.chown(folder, WEB, GROUP)
    folder.chmod(0o2775)
    by_choice = {"THUMBNAIL_DIR_GROUP_WRITABLE": "on"}
    web = Another(folder, WEB, "web", **by_choice)
    assert (web.says(), web.says()) == ("None", "True")
    worker = Another(folder, WORKER, "worker", **by_choice)
    assert (worker.says(), worker.says()) == ("b'web'", "False")  # the lock is one for both
    worker.end()
    web.end()
    assert (folder / NAME).read_bytes() == b"worker"
    assert stat.S_IMODE((folder / SHARD).stat().st_mode) == 0o2775
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o644

    without = Another(folder, WORKER, "worker")
    assert "belongs to another user" in without.says()
    without.end()
    shutil.chown(folder, WEB, 12_345)
    folder.chmod(0o775)
    elsewhere = Another(folder, WORKER, "worker", **by_choice)
    assert "belongs to another user" in elsewhere.says()
    elsewhere.end()


@as_root
def test_folder__of_root_that_may_not_be_written_to_is_read(public: Path) -> None:
    folder = public / "thumbnails"
    make_theirs(folder)
    other = Another(folder, WEB, "web")
    assert other.says() == "b'their bytes'"
    assert other.says() == f"The thumbnail {NAME} cannot be written: Permission denied."
    other.end()


# --- At the start ---------------------------------------------------------------------------------

COMMANDS = [
    ["regenerate_thumbnails"],
    ["regenerate_thumbnails", "--enqueue"],
    ["purge_thumbnails", "--all", "--yes"],
    ["audit_thumbnails", "--fix"],
    ["thumbnail_stats"],
]


def assert_explained(said: str, folder: Path) -> None:
    assert "Traceback" not in said
    (line,) = said.strip().splitlines()
    assert line.removeprefix("CommandError: ") == (
        f"{folder} cannot be the cache's folder: everyone may write to it. Remove it or, if you "
        f"trust everything in it, chmod -R go-w {folder}; or name another folder in "
        "THUMBNAIL_DIR."
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command__that_touches_the_cache_does_not_start(
    words: list[str], thumbnail_dir: Path, run_command: RunCommand
) -> None:
    let_everyone_write(make_theirs(thumbnail_dir).parent.parent)
    done = run_command(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert_explained(done.stderr, thumbnail_dir)


@pytest.mark.django_db(transaction=True)
def test_worker__does_not_start(
    thumbnail_dir: Path, manage: Manage, queue_server: QueueServer
) -> None:
    let_everyone_write(make_theirs(thumbnail_dir).parent.parent)
    done = manage("rqworker", *QUEUES)
    assert (done.returncode, done.stdout) == (2, "")
    assert_explained(done.stderr, thumbnail_dir)


@pytest.mark.django_db(transaction=True)
def test_command__that_leaves_the_cache_alone_starts(thumbnail_dir: Path, manage: Manage) -> None:
    let_everyone_write(make_theirs(thumbnail_dir).parent.parent)
    done = manage("thumbnail_runs")
    assert done.returncode == 0, done.stderr


def test_web_server__does_not_start(thumbnail_dir: Path) -> None:
    thumbnail_dir.mkdir()
    let_everyone_write(thumbnail_dir)
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "thumbsite.wsgi", "--check-config"],
        cwd=ROOT,
        env=environment(thumbnail_dir),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode != 0
    reason = done.stderr.strip().splitlines()[-1]
    assert_explained(reason.partition("ImproperlyConfigured: ")[2], thumbnail_dir)

"""The cache's folder for locks cannot be used: it is read-only, another user's, or a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise, name_of
from tests.faults.switchboard import Poison, Step, Switchboard
from tests.plugin import Ground
from tests.runs import start_run
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import Reason
from thumbnails.models import Run

pytestmark = pytest.mark.django_db(transaction=True)

# Root may do everything, unless it is told to be a user like others.
LIKE_OTHERS = {"FAULTS_LIKE_OTHERS": "1", "THUMBNAIL_RENDER_SECONDS": "2"}
ASSETS = 8
DEATHS_AT_MOST = 4
RUN_SECONDS = 60.0


@pytest.fixture(autouse=True)
def open_socket(ground: Ground) -> Iterator[None]:
    """The database's folder is closed to all but its user and an almighty root."""
    folder = ground.postgres.home / "socket" if ground.postgres else None
    if folder:
        folder.chmod(0o755)
    yield
    if folder:
        folder.chmod(0o700)


def read_only(locks: Path) -> None:
    locks.mkdir(mode=0o555)


def a_file(locks: Path) -> None:
    locks.touch()


def another_users(locks: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    locks.mkdir(mode=0o700)
    shutil.chown(locks, "nobody")


def wait_for_end(run: Run, switchboard: Switchboard, culprit: str) -> None:
    def is_over() -> bool:
        run.refresh_from_db()
        deaths = times_begun(switchboard, culprit)
        assert deaths <= DEATHS_AT_MOST, f"{culprit} has been tried {deaths} times"
        return run.state == Run.State.DONE

    wait_for(is_over, f"{run} to be done", RUN_SECONDS)


def times_begun(switchboard: Switchboard, picture: str) -> int:
    begun = (event.picture for event in switchboard.events() if event.step == Step.BEGIN)
    return sum(1 for name in begun if name == picture)


@pytest.mark.parametrize(
    ("spoil", "by"), [(read_only, "workers"), (a_file, "command"), (another_users, "workers")]
)
def test_picture_that_kills__does_not_kill_without_end(
    spoil: Callable[[Path], None],
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    serve_site: ServeSite,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    assets = make_assets(ASSETS)
    culprit = assets[3]
    thumbnail_dir.mkdir()
    spoil(thumbnail_dir / ".locks")
    switchboard.poison(Poison.SEGFAULT, name_of(culprit))
    if by == "workers":
        supervise(1, **LIKE_OTHERS)
        run = start_run()
        wait_for_end(run, switchboard, name_of(culprit))
    else:
        done = manage("regenerate_thumbnails", **LIKE_OTHERS)
        assert done.returncode == 1, done.stderr
        assert "crashed: 1" in done.stdout, done.stdout + done.stderr
        run = Run.objects.get()
    say(f"{name_of(culprit)} was tried {times_begun(switchboard, name_of(culprit))} times")
    assert times_begun(switchboard, name_of(culprit)) <= DEATHS_AT_MOST
    assert run.progress().failures == {Reason.CRASHED: [culprit.pk]}
    assert run.progress().rendered == ASSETS - 1

    site = serve_site(**LIKE_OTHERS)
    for asset in assets[:2]:
        (thumbnail_dir / asset.thumbnail_name).unlink()
        assert site.thumbnail(asset).status == 200
        assert (thumbnail_dir / asset.thumbnail_name).exists()

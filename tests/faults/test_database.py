"""PostgreSQL is restarted, killed, or hangs while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from tests.faults import accounts
from tests.faults.conftest import (
    MakeAssets,
    Say,
    StartCommand,
    Supervise,
    wait_for_begun,
)
from tests.faults.switchboard import Switchboard
from tests.plugin import Ground
from tests.runs import start_run
from tests.servers import PostgresServer, QueueServer
from thumbnails.models import Run
from thumbnails.upkeep.images import freshness

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def postgres(ground: Ground) -> PostgresServer:
    if ground.postgres is None:
        pytest.skip(f"only a PostgreSQL of the tests' own can be restarted, not {ground.database}")
    return ground.postgres


def restart(postgres: PostgresServer) -> None:
    postgres.restart()
    connection.close()


def kill(postgres: PostgresServer) -> None:
    postgres.kill()
    time.sleep(2)  # some try in vain meanwhile
    postgres.start()
    connection.close()


def hang(postgres: PostgresServer) -> None:
    with postgres.hanging():
        time.sleep(5)  # some give up meanwhile


@pytest.mark.parametrize("interrupt", [restart, kill, hang])
def test_postgres__goes_away_while_workers_and_a_command_are_at_work(
    postgres: PostgresServer,
    interrupt: Callable[[PostgresServer], None],
    make_assets: MakeAssets,
    supervise: Supervise,
    command: StartCommand,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    make_assets(240)
    switchboard.slow_down(0.02)
    workers = supervise(2, DATABASE_SECONDS="2")
    by_workers = start_run()
    regenerate = command("regenerate_thumbnails", "--force", "--workers", "1", DATABASE_SECONDS="2")
    by_command = accounts.run_of_command()
    wait_for_begun(switchboard, 100)
    interrupt(postgres)
    back_at = time.monotonic()
    begun = switchboard.begun()
    wait_for_begun(switchboard, begun + 1)
    say(f"the runs went on {time.monotonic() - back_at:.1f} s after the database was back")
    accounts.wait_until_done(by_workers)
    status = regenerate.wait()
    assert status == 0, regenerate.log
    assert workers.are_all_alive()
    accounts.check(by_workers, thumbnail_dir)
    accounts.check(by_command, thumbnail_dir)


def test_postgres__goes_away_while_a_long_picture_is_looked_at_again(
    postgres: PostgresServer,
    make_assets: MakeAssets,
    command: StartCommand,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
) -> None:
    """Its row is read once more before the file is replaced, since it took so long."""
    make_assets(20)
    switchboard.hold()
    regenerate = command("regenerate_thumbnails", "--force", "--workers", 1, DATABASE_SECONDS="2")
    wait_for_begun(switchboard, 1)
    time.sleep(freshness.LOOK_AGAIN_SECONDS + 1)
    postgres.kill()
    switchboard.let_go()
    time.sleep(2)  # some try in vain meanwhile
    postgres.start()
    connection.close()
    assert regenerate.wait() == 0, regenerate.log
    accounts.check(Run.objects.get(), thumbnail_dir)

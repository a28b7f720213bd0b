"""The line to PostgreSQL breaks while something is committed: whether it was is not known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import (
    MakeAssets,
    Say,
    StartCommand,
    Supervise,
    wait_for_begun,
)
from tests.faults.proxy import Cut, Proxy
from tests.faults.switchboard import Switchboard
from tests.servers import PostgresServer, QueueServer
from tests.waiting import wait_for
from thumbnails.models import Chunk, ImageAsset, Run, recipe_in_force
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS, PER_CHUNK = 60, 15
CUTS, EACH = 10, 2
CUTS_AT_LEAST = 3
RUN_SECONDS = 60.0


@pytest.fixture
def proxy(durable_postgres: PostgresServer) -> Iterator[Proxy]:
    with Proxy(durable_postgres.home / "socket") as proxy:
        yield proxy


def planned_run(assets: list[ImageAsset]) -> Run:
    """The command's forced run over all, in few chunks: each is written down in several parts."""
    run = Run.objects.create(
        kind=Run.Kind.REGENERATE,
        origin=Run.Origin.COMMAND,
        state=Run.State.PAUSED,
        force=True,
        scope=Selection().as_json(),
        scope_text="all",
        recipe=recipe_in_force().digest,
        total=len(assets),
    )
    ids = [asset.pk for asset in assets]
    for number, begin in enumerate(range(0, len(ids), PER_CHUNK), start=1):
        Chunk.objects.create(run=run, number=number, asset_ids=ids[begin : begin + PER_CHUNK])
    return run


def wait_until_done(run: Run) -> None:
    def is_done() -> bool:
        done = run.progress().done
        assert done <= ASSETS, f"{done} of {ASSETS} are done"
        run.refresh_from_db()
        return run.state == Run.State.DONE

    wait_for(is_done, f"{run} to be done", RUN_SECONDS, interval_seconds=0.1)


@pytest.mark.parametrize(
    ("by", "cut"),
    [
        ("workers", Cut.AFTER_COMMIT),
        ("command", Cut.AFTER_COMMIT),
        ("command", Cut.BEFORE_COMMIT),
    ],
)
def test_lost_commits__count_each_image_once(
    by: str,
    cut: Cut,
    proxy: Proxy,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    command: StartCommand,
    process_environment: dict[str, str],
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    run = planned_run(make_assets(ASSETS))
    switchboard.slow_down(0.25)
    through_it = proxy.url(process_environment["DATABASE_URL"])
    if by == "workers":
        supervise(2, DATABASE_URL=through_it)
        assert manage("thumbnail_runs", "resume", run.pk).returncode == 0
    else:
        command("regenerate_thumbnails", "--force", "--workers", 2, DATABASE_URL=through_it)
    wait_for_begun(switchboard, 2)
    proxy.cut_each(EACH, cut, times=CUTS)
    wait_until_done(run)
    say(f"{proxy.cuts} commits were hit")
    assert run.progress().rendered == ASSETS
    accounts.check(run, thumbnail_dir)
    assert proxy.cuts >= CUTS_AT_LEAST

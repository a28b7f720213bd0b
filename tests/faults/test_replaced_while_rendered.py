"""Originals are overwritten in place and imported again while a run renders them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests import pictures
from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, StartCommand, Supervise
from tests.faults.switchboard import Switchboard
from tests.runs import start_run
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS, PROCESSES = 40, 2
COLOURS = ("blue", "green", "yellow")
"""One a round; at first they are red."""


def plain(colour: str) -> bytes:
    return pictures.jpeg(Image.new("RGB", (32, 24), pictures.QUARTERS[colour]))


def overwrite(assets: list[ImageAsset], originals_dir: Path, colour: str) -> None:
    """Put another picture into the same files; every third is replaced by a new file instead."""
    for number, asset in enumerate(assets):
        path = originals_dir / str(asset.original.name)
        if number % 3:
            path.write_bytes(plain(colour))
        else:
            other = originals_dir.with_name("other.jpg")
            other.write_bytes(plain(colour))
            other.replace(path)


def check_fresh_ones(originals_dir: Path, thumbnail_dir: Path, colour: str) -> int:
    """What the database calls fresh shows its present original. Returns how many those are."""
    fresh = list(ImageAsset.objects.fresh())
    wrong = []
    for asset in fresh:
        found = (originals_dir / str(asset.original.name)).stat()
        version = f"{found.st_size}-{found.st_mtime_ns // 1000}"
        thumbnail = (thumbnail_dir / asset.thumbnail_path).read_bytes()
        shown = pictures.corners(pictures.opened(thumbnail))
        if asset.source_version != version or set(shown) != {colour}:
            wrong.append((asset.original.name, asset.source_version, version, shown[0]))
    assert not wrong, f"{len(wrong)} of {len(fresh)} fresh ones are not {colour}: {wrong[:3]}"
    return len(fresh)


def are_held(switchboard: Switchboard, number: int) -> bool:
    return switchboard.held() >= number


@pytest.mark.parametrize("by", ["workers", "command"])
def test_fresh_thumbnails__show_the_picture_that_lies_there(
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    command: StartCommand,
    switchboard: Switchboard,
    queue_server: QueueServer,
    originals_dir: Path,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    assets = make_assets(ASSETS, plain("red"))
    if by == "workers":
        supervise(PROCESSES)
    for colour in COLOURS:
        held = switchboard.held()
        switchboard.hold()
        if by == "workers":
            start_run(force=True)
        else:
            command("regenerate_thumbnails", "--force", "--workers", PROCESSES)
        wait_for(partial(are_held, switchboard, held + PROCESSES), "all to be at a picture")
        overwrite(assets, originals_dir, colour)
        imported = manage("import_images", originals_dir)
        assert imported.returncode == 0, imported.stdout + imported.stderr
        switchboard.let_go()
        run = Run.objects.order_by("pk").reverse()[0]
        accounts.wait_until_done(run)
        fresh = check_fresh_ones(originals_dir, thumbnail_dir, colour)
        say(f"{fresh} of {ASSETS} are fresh and {colour}")
    assert manage("regenerate_thumbnails").returncode == 0
    assert check_fresh_ones(originals_dir, thumbnail_dir, COLOURS[-1]) == ASSETS

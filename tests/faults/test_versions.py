"""Processes of two recipes at once, as while a new version is deployed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise
from tests.faults.switchboard import Switchboard
from tests.pictures import opened
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, Run
from thumbnails.rendering import read_stamp

pytestmark = pytest.mark.django_db(transaction=True)

OLDER, NEWER = {"THUMBNAIL_SIZE": "128"}, {"THUMBNAIL_SIZE": "256"}
ASSETS, ROUNDS = 20, 10
WATCHED_SECONDS = 7.0
"""For longer than a worker waits until it looks after the runs again."""


def test_run_of_a_newer_recipe__waits_for_a_worker_that_has_it(
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    switchboard: Switchboard,
    thumbnail_dir: Path,
) -> None:
    make_assets(ASSETS)
    older = supervise(1, **OLDER)
    assert manage("regenerate_thumbnails", "--enqueue", **NEWER).returncode == 0
    run = Run.objects.get()
    watched_until = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < watched_until and not switchboard.begun():
        time.sleep(0.1)
    assert switchboard.begun() == 0
    wait_for(
        lambda: "recipe" in manage("thumbnail_runs", "show", run.pk, **NEWER).stdout,
        "the run to say that no process has its recipe",
    )
    assert older.are_all_alive()
    assert run.progress().done == 0

    supervise(1, **NEWER)
    accounts.wait_until_done(run)
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == ASSETS
    assert ImageAsset.objects.fresh().count() == ASSETS
    assert set(switchboard.times_rendered().values()) == {1}


def test_web_servers_of_two_recipes__do_not_undo_each_others_work(
    make_assets: MakeAssets,
    manage: Manage,
    serve_site: ServeSite,
    supervise: Supervise,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    assets = make_assets(ASSETS)
    older = serve_site(**OLDER)
    assert manage("regenerate_thumbnails", **OLDER).returncode == 0
    newer = serve_site(**NEWER)
    begun = switchboard.begun()
    supervise(1, **NEWER)
    for _ in range(ROUNDS):
        for asset in assets:
            for site in (older, newer):
                answer = site.thumbnail(asset)
                assert answer.status == 200, answer
                opened(answer.body)
    wait_for(lambda: ImageAsset.objects.fresh().count() == ASSETS, "all to be refreshed")
    say(f"{switchboard.begun() - begun} rendered in {ROUNDS} rounds over {ASSETS} images")
    assert switchboard.begun() - begun == ASSETS
    for asset in assets:
        file = thumbnail_dir / asset.thumbnail_name
        assert read_stamp(file.read_bytes()) == asset.fingerprint

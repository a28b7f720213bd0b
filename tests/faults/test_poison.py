"""Pictures that kill or hang the process that decodes them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise, name_of
from tests.faults.switchboard import Poison, Switchboard
from tests.runs import start_run
from tests.waiting import wait_for
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.runs import starting

pytestmark = pytest.mark.django_db(transaction=True)

QUICKLY = {"THUMBNAIL_RENDER_SECONDS": "2"}
ASSETS = 128  # in chunks of two


@pytest.fixture
def culprits(make_assets: MakeAssets, switchboard: Switchboard) -> list[ImageAsset]:
    """One that segfaults and one that hangs, among many good ones."""
    assets = make_assets(ASSETS)
    switchboard.poison(Poison.SEGFAULT, name_of(assets[12]))
    switchboard.poison(Poison.HANG, name_of(assets[105]))
    return [assets[12], assets[105]]


def check_culprits(
    run: Run, culprits: list[ImageAsset], switchboard: Switchboard, thumbnail_dir: Path
) -> None:
    crashed = {Reason.CRASHED: [asset.pk for asset in culprits]}
    accounts.check(run, thumbnail_dir, failed=crashed)
    begun = [event.picture for event in switchboard.events()]
    # The second death names the culprit: there is no third one.
    assert {begun.count(name_of(asset)) for asset in culprits} == {2}


def test_poison__is_named_and_its_neighbours_are_rendered_by_workers(
    culprits: list[ImageAsset],
    supervise: Supervise,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    workers = supervise(2, **QUICKLY)
    began = time.monotonic()
    run = start_run()
    accounts.wait_until_done(run)
    say(f"done after {time.monotonic() - began:.1f} s")
    assert workers.are_all_alive()
    check_culprits(run, culprits, switchboard, thumbnail_dir)

    switchboard.mend()
    again = starting.retry(run, origin=Run.Origin.ADMIN, reason=Reason.CRASHED)
    accounts.wait_until_done(again)
    accounts.check(again, thumbnail_dir)
    assert again.progress().rendered == len(culprits)
    assert ImageAsset.objects.fresh().count() == ASSETS


def test_poison__is_named_and_its_neighbours_are_rendered_by_the_command(
    culprits: list[ImageAsset],
    manage: Manage,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    began = time.monotonic()
    first = manage("regenerate_thumbnails", **QUICKLY)
    say(f"done after {time.monotonic() - began:.1f} s")
    assert first.returncode == 1, first.stderr
    assert "crashed: 2" in first.stdout
    run = Run.objects.get()
    check_culprits(run, culprits, switchboard, thumbnail_dir)

    # No process dies again over what is known, until a person asks for it.
    deaths = switchboard.begun()
    second = manage("regenerate_thumbnails", **QUICKLY)
    assert second.returncode == 1
    assert switchboard.begun() == deaths

    switchboard.mend()
    third = manage("regenerate_thumbnails", "--force", **QUICKLY)
    assert third.returncode == 0, third.stdout
    accounts.check(Run.objects.order_by("pk").reverse()[0], thumbnail_dir)
    assert ImageAsset.objects.fresh().count() == ASSETS


def test_many_poisonous_neighbours__do_not_stop_the_command(
    make_assets: MakeAssets, manage: Manage, switchboard: Switchboard, thumbnail_dir: Path
) -> None:
    """A folder of files that all crash the same decoder."""
    culprits = make_assets(ASSETS)[20:24]
    switchboard.poison(Poison.SEGFAULT, *map(name_of, culprits))
    done = manage("regenerate_thumbnails", **QUICKLY)
    assert done.returncode == 1, done.stderr
    check_culprits(Run.objects.get(), culprits, switchboard, thumbnail_dir)


@pytest.mark.parametrize("poison", Poison)
def test_poison__that_the_public_asks_for_kills_no_web_process(
    poison: Poison,
    make_assets: MakeAssets,
    serve_site: ServeSite,
    switchboard: Switchboard,
) -> None:
    """Asked for again and again, it is tried twice and never again, and others are served."""
    culprit, *others = make_assets(4)
    switchboard.poison(poison, name_of(culprit))
    site = serve_site(**QUICKLY)
    for other in others:
        assert site.thumbnail(culprit, culprit.fingerprint).status in (404, 503)
        assert site.thumbnail(other, other.fingerprint).status == 200

    def is_named() -> bool:
        culprit.refresh_from_db()
        return culprit.thumbnail_error == Reason.CRASHED

    wait_for(is_named, "the picture to be called crashed")
    assert site.thumbnail(culprit, culprit.fingerprint).status == 404
    begun = [event.picture for event in switchboard.events()]
    assert begun.count(name_of(culprit)) == 2
    assert site.running


def _is_held(switchboard: Switchboard, times_before: int) -> bool:
    return switchboard.held() > times_before


def test_web_process__that_is_killed_blames_no_picture(
    make_assets: MakeAssets, serve_site: ServeSite, switchboard: Switchboard
) -> None:
    """Twice, while it renders the same ones."""
    assets = make_assets(4)
    switchboard.hold()
    for killed in range(2):
        site = serve_site()
        with ThreadPoolExecutor(len(assets)) as readers:
            for asset in assets:
                readers.submit(site.thumbnail, asset)  # no answer will come
            wait_for(partial(_is_held, switchboard, killed), "a picture to be rendered")
            site.kill()
    switchboard.let_go()
    site = serve_site()
    for asset in assets:
        assert site.thumbnail(asset, asset.fingerprint).status == 200
    assert not ImageAsset.objects.exclude(thumbnail_error="").exists()

"""Thumbnails are purged again and again while visitors look at them."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise
from tests.faults.switchboard import Switchboard
from tests.faults.web import WebServer
from tests.pictures import opened
from tests.runs import start_run
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS, READERS, PURGES = 3, 6, 20


@dataclass
class Visit:
    """What one visitor saw."""

    good: int = 0
    busy: int = 0
    """Answers 503: come back in a moment."""
    bad: list[str] = field(default_factory=list)


def visit(site: WebServer, assets: list[ImageAsset], over: threading.Event, seed: int) -> Visit:
    """Look at one after the other until it is over."""
    chance, seen = random.Random(seed), Visit()  # noqa: S311  no secret
    while not over.is_set():
        asset = chance.choice(assets)
        answer = site.thumbnail(asset)
        if answer.status == 200:
            opened(answer.body)
            seen.good += 1
        elif answer.status == 503:
            seen.busy += 1
        else:
            seen.bad.append(f"{asset.pk}: {answer.status}")
    return seen


def test_visitors__are_answered_while_thumbnails_are_purged(
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    serve_site: ServeSite,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    """Few, so that each is being read whenever it is purged."""
    assets = make_assets(ASSETS)
    supervise(2)
    switchboard.slow_down(0.2)
    site, over = serve_site(READERS), threading.Event()
    with ThreadPoolExecutor(READERS) as pool:
        visits = [pool.submit(visit, site, assets, over, seed) for seed in range(READERS)]
        try:
            purged = manage("purge_thumbnails", "--all", "--yes")
            assert purged.returncode == 0, purged.stderr
            for _ in range(PURGES):
                accounts.wait_until_done(start_run(kind=Run.Kind.PURGE))
        finally:
            over.set()
    seen = [done.result() for done in visits]
    good, busy = sum(one.good for one in seen), sum(one.busy for one in seen)
    bad = [answer for one in seen for answer in one.bad]
    say(f"{good} thumbnails seen, {busy} times told to come back, {len(bad)} bad answers")
    assert not bad
    assert good > PURGES
    assert {site.thumbnail(asset).status for asset in assets} == {200}
    assert ImageAsset.objects.fresh().count() == ASSETS

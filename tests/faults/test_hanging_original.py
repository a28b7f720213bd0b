"""An original that hangs its reader, as one on a network disk whose server is gone does."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import Manage
from tests.faults import accounts
from tests.faults.conftest import MakeAssets, Say, ServeSite, Supervise, name_of
from tests.faults.distant import Distant
from tests.faults.web import Answer, WebServer
from tests.pictures import opened
from tests.runs import start_run
from tests.servers import QueueServer
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

QUICKLY = {"THUMBNAIL_RENDER_SECONDS": "2"}
ASSETS, HANGING = 12, 5
REQUESTS, THREADS = 20, 4
HITS, HITS_SECONDS = 50, 20.0
ANSWER_SECONDS = 60.0


class Hang(Protocol):
    def __call__(self, asset: ImageAsset) -> dict[str, str]: ...


@pytest.fixture(params=["pipe", "store"])
def hang(request: pytest.FixtureRequest, originals_dir: Path, tmp_path: Path) -> Hang:
    """Let an original hang its reader. Returns the settings of the processes to be hung."""
    distant = Distant(tmp_path / "errors")

    def hang(asset: ImageAsset) -> dict[str, str]:
        if request.param == "store":
            distant.err("hang", name_of(asset))
            return QUICKLY | distant.settings
        # A pipe without a writer.
        path = originals_dir / str(asset.original.name)
        path.unlink()
        os.mkfifo(path)
        return QUICKLY

    return hang


@pytest.mark.parametrize("by", ["workers", "command"])
def test_hanging_original__fails_alone_and_keeps_its_thumbnail(
    by: str,
    make_assets: MakeAssets,
    manage: Manage,
    supervise: Supervise,
    serve_site: ServeSite,
    queue_server: QueueServer,
    hang: Hang,
    thumbnail_dir: Path,
    say: Say,
) -> None:
    hanging = make_assets(ASSETS)[HANGING]
    assert manage("regenerate_thumbnails").returncode == 0
    file = thumbnail_dir / hanging.thumbnail_name
    before = file.read_bytes()
    settings = hang(hanging)
    began = time.monotonic()
    if by == "workers":
        supervise(1, **settings)
        run = start_run(force=True)
    else:
        done = manage("regenerate_thumbnails", "--force", **settings)
        assert done.returncode == 1, done.stderr
        run = Run.objects.order_by("pk").reverse()[0]
    accounts.wait_until_done(run)
    say(f"done after {time.monotonic() - began:.1f} s: {run.progress().failures}")
    assert run.progress().failures == {Reason.STORAGE_ERROR: [hanging.pk]}
    assert run.progress().rendered == ASSETS - 1
    assert file.read_bytes() == before
    served = serve_site(**settings).thumbnail(hanging)
    assert served.status == 200, served
    assert served.body == before


def timed(site: WebServer, asset: ImageAsset) -> tuple[float, Answer]:
    began = time.monotonic()
    answer = site.thumbnail(asset)
    return time.monotonic() - began, answer


def test_hanging_original__does_not_take_the_site_along(
    make_assets: MakeAssets,
    manage: Manage,
    serve_site: ServeSite,
    hang: Hang,
    say: Say,
) -> None:
    """More ask for it than the server has threads; it has no thumbnail to be served instead."""
    assets = make_assets(ASSETS)
    hanging = assets.pop(HANGING)
    assert manage("regenerate_thumbnails").returncode == 0
    assert manage("purge_thumbnails", "--ids", hanging.pk, "--yes").returncode == 0
    site = serve_site(THREADS, **hang(hanging))
    with ThreadPoolExecutor(REQUESTS) as askers:
        waiting = [askers.submit(timed, site, hanging) for _ in range(REQUESTS)]
        try:
            began = time.monotonic()
            for number in range(HITS):
                answer = site.thumbnail(assets[number % len(assets)])
                assert answer.status == 200, answer
                opened(answer.body)
                assert time.monotonic() - began < HITS_SECONDS
            say(f"{HITS} hits meanwhile in {time.monotonic() - began:.1f} s")
            _, unanswered = wait(waiting, ANSWER_SECONDS)
            assert not unanswered, f"{len(unanswered)} of {REQUESTS} requests wait for ever"
        finally:
            site.kill()  # what still waits is let go
    answers = [future.result() for future in waiting]
    say(f"the longest wait for the hanging one: {max(seconds for seconds, _ in answers):.1f} s")
    for seconds, answer in answers:
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) > 0
        assert seconds < ANSWER_SECONDS

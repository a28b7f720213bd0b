"""Runs that workers begin by themselves after a change of recipe."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

from tests.conftest import MakeAsset
from tests.servers import QueueServer
from thumbnails import jobs
from thumbnails.models import ImageAsset, KnownRecipe, Run, State
from thumbnails.models.recipes import announce
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import freshness, pools
from thumbnails.upkeep.runs import control, recovery

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def made(make_asset: MakeAsset, queue_server: QueueServer) -> list[ImageAsset]:
    """Fresh thumbnails by the recipe of this process."""
    announce()
    assets = [make_asset() for _ in range(3)]
    for asset in assets:
        freshness.refresh_now(asset.pk, pools.web_pool())
    return assets


def recover(queue_server: QueueServer, times: int = 2) -> list[Run]:
    """What a worker does every few seconds. Returns all runs that it has begun so far."""
    for _ in range(times):
        queue_server.flush()
        recovery.recover_runs()
    return list(Run.objects.filter(origin=Run.Origin.WORKER).order_by("pk"))


def test_heal__begins_one_run_after_each_change(
    made: list[ImageAsset], queue_server: QueueServer, settings: Settings
) -> None:
    settings.THUMBNAIL_HEAL = "20/s"
    assert recover(queue_server) == []

    settings.THUMBNAIL_SIZE = 100
    (run,) = recover(queue_server)
    assert (run.rate, run.total, run.scope) == (20, 3, {"states": ["stale"]})
    assert queue.enqueued_chunks() == {chunk.pk for chunk in run.chunks.all()}
    # Staff may stop it: it does not begin again, also where some are stale.
    control.cancel(run)
    assert recover(queue_server) == [run]

    settings.THUMBNAIL_SIZE = 64
    _, second = recover(queue_server)
    for chunk in second.chunks.all():
        jobs.work_chunk(chunk.pk)
    assert ImageAsset.objects.fresh().count() == 3

    settings.THUMBNAIL_SIZE = 100  # a rollback
    *_, third = recover(queue_server)
    assert (third.total, third.recipe) == (3, run.recipe)
    assert KnownRecipe.objects.count() == 3


@pytest.mark.parametrize("rate", ["off", "20/s"])
def test_heal__begins_nothing_where_it_is_off_or_the_same_is_under_way(
    made: list[ImageAsset], queue_server: QueueServer, settings: Settings, rate: str
) -> None:
    settings.THUMBNAIL_HEAL = rate
    settings.THUMBNAIL_SIZE = 100
    announce()
    if rate != "off":
        Run.objects.create(
            kind=Run.Kind.REGENERATE,
            state=Run.State.PAUSED,
            origin=Run.Origin.ADMIN,
            scope={"states": ["stale"]},
        )
    assert recover(queue_server) == []


def test_overview__offers_a_run_over_all_that_is_stale(
    made: list[ImageAsset], staff_client: Client, settings: Settings
) -> None:
    link = "/admin/thumbnails/imageasset/plan/regenerate/?state=stale"
    assert link not in staff_client.get("/admin/thumbnails/cache/").content.decode()
    settings.THUMBNAIL_SIZE = 100
    assert {asset.state for asset in ImageAsset.objects.all()} == {State.STALE}
    page = staff_client.get("/admin/thumbnails/cache/").content.decode()
    assert f'<a class="button regenerate" href="{link}">Regenerate the 3 stale ones</a>' in page
    assert staff_client.get(link).context["planned"].assets.count() == 3

"""How long a run will take: by runs of similar size, or by what a preview took."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.conftest import MakeAsset, RunCommand
from thumbnails.models import Chunk, Run, RunEvent
from thumbnails.upkeep.reports.formatting import duration_between
from thumbnails.upkeep.runs import estimate, preview
from thumbnails.upkeep.runs.estimate import Estimate

pytestmark = pytest.mark.django_db


def ended_run(images: int, seconds: float, **values: Any) -> Run:
    """A run that took that time for as many images."""
    now = timezone.now()
    begun = now - timedelta(seconds=seconds)
    columns = {"kind": Run.Kind.REGENERATE, "state": Run.State.DONE, "finished_at": now, **values}
    run = Run.objects.create(total=images, created_at=begun, **columns)
    Chunk.objects.create(run=run, number=1, asset_ids=[], position=images, rendered=images)
    return run


def by_runs(total: int) -> tuple[int, int] | None:
    found = estimate.by_runs(Run.Kind.REGENERATE, total)
    return None if found is None else (round(found.at_least), round(found.at_most))


def test_by_runs__small_ones_say_nothing_of_a_large_one() -> None:
    ended_run(3, 6)
    ended_run(16, 8)
    assert by_runs(10_000) is None
    assert by_runs(10) == (4, 27)  # from 0.5 to 2 seconds an image
    ended_run(500, 50)
    assert by_runs(10_000) == (800, 1252)


def test_by_runs__those_of_similar_size_say_more_than_larger_ones() -> None:
    ended_run(100_000, 1_000)
    assert by_runs(100) == (1, 3)
    ended_run(50, 10)
    assert by_runs(100) == (16, 27)


def test_by_runs__leaves_out_what_was_not_just_work() -> None:
    ended_run(100, 50, rate=2.0)
    ended_run(100, 50, kind=Run.Kind.PURGE)
    ended_run(100, 50, state=Run.State.CANCELLED)
    resumed = ended_run(100, 86_400)
    RunEvent.objects.create(run=resumed, kind=RunEvent.Kind.RESUMED)
    skipping = ended_run(100, 1)
    skipping.chunks.update(rendered=1, fresh=99)
    assert by_runs(100) is None


def test_by_preview__each_weighs_as_many_images_as_it_stands_for() -> None:
    # The first one waited for the render process to start; nine in ten take a tenth of the other.
    found = estimate.by_preview([(3.0, 900), (0.1, 900), (1.0, 100)], 1_000, 2)
    assert found is not None
    assert found.at_least == pytest.approx(95 / 1.6)
    assert found.at_most == pytest.approx(95 * 1.6 + 2)
    assert estimate.by_preview([(3.0, 900)], 900, 1) is None


@pytest.mark.parametrize(
    ("at_least", "at_most", "words"),
    [
        (0.1, 2.4, "up to 2 seconds"),
        (0, 0.1, "up to 1 second"),
        (170, 310, "about 3 to 5 minutes"),
        (240, 250, "about 4 minutes"),
        (50, 7_300, "up to 2 hours"),
    ],
)
def test_duration_between__in_words(at_least: float, at_most: float, words: str) -> None:
    assert duration_between(at_least, at_most) == words


@pytest.mark.django_db(transaction=True)
def test_estimate__is_shown_with_its_uncertainty(
    staff_client: Client, make_asset: MakeAsset, run_command: RunCommand
) -> None:
    for _ in range(3):
        make_asset()
    address = "/admin/thumbnails/imageasset/plan/regenerate/"
    page = staff_client.get(address).content.decode()
    assert "not known yet: no run of similar size was measured. A preview measures it" in page
    planned = run_command("regenerate_thumbnails", "--dry-run").stdout
    assert "time not known, as no run of similar size was measured" in planned
    page = staff_client.post(address, {"once": "1", "preview": "x"}).content.decode()
    assert "By what these took, all take up to" in page.replace("\n", " ")
    assert "with 1 worker." in page

    ended_run(3, 900)
    page = staff_client.get(address).content.decode()
    assert "about 12 to 19 minutes, by the last runs of similar size" in page
    assert "about 12 to 19 minutes by the last runs" in (
        run_command("regenerate_thumbnails", "--dry-run").stdout
    )


def test_estimate__one_number_is_between_both() -> None:
    assert Estimate(at_least=4, at_most=9).seconds == 6
    assert preview.estimate_of([], 10, 1) is None

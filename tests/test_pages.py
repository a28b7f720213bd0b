"""Pages of images: all of them once and in order, and read off an index."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, SessionImage, State, TrainingSession, recipe_in_force
from thumbnails.upkeep.selection import pages
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def images() -> list[ImageAsset]:
    """In every state, of several recipes, some created at the same moment, in no order of ids."""
    current = recipe_in_force().digest
    made = []
    for number in range(120):
        recipe = (current, "0ld", "aged", "zzz", current)[number % 5]
        has_file, failed = number % 4 != 0, number % 6 == 0
        made.append(
            ImageAsset(
                original=f"{number}.jpg",
                created_at=START + timedelta(hours=(number * 37 % 120) // 3),
                source_version="1-1",
                thumbnail_path=f"00/{number}.jpg" if has_file else "",
                thumbnail_recipe=recipe if has_file else "",
                thumbnail_source="0-0" if number % 7 == 0 else "1-1",
                thumbnail_error="unreadable" if failed else "",
                thumbnail_error_recipe=(current, "0ld")[number % 4 // 2] if failed else "",
                thumbnail_error_source="0-0" if number % 18 == 0 else "1-1",
            )
        )
    images = ImageAsset.objects.bulk_create(made)
    sessions = [TrainingSession.objects.create(name="S") for _ in range(3)]
    SessionImage.objects.add(
        (session.pk, image.pk, image.created_at)
        for number, image in enumerate(images)
        for session in sessions[: number % 4]
    )
    return images


def walk(selection: Selection, size: int) -> list[ImageAsset]:
    found: list[ImageAsset] = []
    before = None
    while True:
        page = pages.page(selection, size=size, before=before)
        assert len(page.images) == size or page.next_before is None
        found += page.images
        before = page.next_before
        if before is None:
            return found


STATES: list[tuple[State, ...] | None] = [
    None,
    *itertools.combinations(State, 1),
    *itertools.combinations(State, 2),
    tuple(State),
]


def newest_first(selection: Selection) -> list[ImageAsset]:
    return sorted(selection.assets(), key=lambda asset: (asset.created_at, asset.pk), reverse=True)


DAY: dict[str, Any] = {"from_date": START.date(), "to_date": START.date()}


@pytest.mark.parametrize(
    "others", [{}, {"session": "S"}, {"session": "S", **DAY}, {"session": "S", "name": "1"}]
)
def test_page__walks_all_that_are_meant_once_and_in_order(
    images: list[ImageAsset], others: dict[str, Any]
) -> None:
    for states in STATES:
        selection = Selection(states=states, **others)
        wanted = newest_first(selection)
        assert walk(selection, 7) == wanted, states
        assert walk(selection, 1000) == wanted, states


@pytest.mark.parametrize(("limit", "number"), [("SESSIONS_MERGED", 2), ("MEMBERS_READ", 50)])
@pytest.mark.parametrize("others", [{}, {"states": (State.FRESH, State.STALE)}])
def test_page__of_large_sessions_of_a_name_and_of_many(
    images: list[ImageAsset],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    number: int,
    others: dict[str, Any],
) -> None:
    selection = Selection(session="S", **others)
    wanted = newest_first(selection)
    for _ in range(2):  # within the limit, and above it
        assert walk(selection, 7) == wanted
        assert pages.ids_between(selection, 7, 14) == [asset.pk for asset in wanted[7:14]]
        assert pages.count(selection) == len(wanted)
        monkeypatch.setattr(pages, limit, number)


def test_page__of_one_of_the_sessions_of_a_name(images: list[ImageAsset]) -> None:
    for session in TrainingSession.objects.all():
        for selection in (
            Selection(session_id=session.pk),
            Selection(session_id=session.pk, session="S", **DAY),
        ):
            wanted = newest_first(selection)
            assert wanted
            assert walk(selection, 7) == wanted
            assert pages.count(selection) == len(wanted)
    with pytest.raises(UsageError, match="no session"):
        pages.page(Selection(session_id=999), size=7)


def test_page__is_cut_exactly_at_its_size(images: list[ImageAsset]) -> None:
    page = pages.page(Selection(), size=120)
    assert len(page.images) == 120
    assert page.next_before is None
    assert pages.page(Selection(), size=119).next_before is not None


def test_page__queries_depend_on_recipes_and_not_on_rows(
    images: list[ImageAsset], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        pages.page(Selection(), size=50)
    # Four recipes are looked up, and that there is none after them; three others and one changed.
    with django_assert_num_queries(5 + 4):
        pages.page(Selection(states=(State.STALE,)), size=50)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="asks PostgreSQL for its plan")
def test_page__is_read_off_an_index_and_never_sorted(images: list[ImageAsset]) -> None:
    selections = [*(Selection(states=states) for states in STATES), Selection(session="S")]
    ranges = [each for selection in selections for each in pages.index_ranges(selection)]
    with connection.cursor() as cursor:
        # A table of this size is read and sorted in no time, whatever indexes it has.
        for way in ("seqscan", "bitmapscan", "sort", "incremental_sort"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
    for each in ranges:
        plan = each.newest(before=pages.Position(START + timedelta(hours=20), 50))[:10].explain()
        assert "Sort" not in plan, plan


def test_stretch__gives_pages_by_number(images: list[ImageAsset]) -> None:
    for states in STATES:
        selection = Selection(states=states, orientations=(1,))
        wanted = [asset.pk for asset in newest_first(selection)]
        for begin in (0, 7, 100, 500):
            found = pages.ids_between(selection, begin, begin + 10)
            assert found == wanted[begin : begin + 10], states


def test_stretch__by_recipes(images: list[ImageAsset]) -> None:
    selection = Selection(recipes=("0ld", "zzz"))
    wanted = [asset.pk for asset in newest_first(selection)]
    assert pages.ids_between(selection, 0, 1000) == wanted

"""The ledger of assets: four states that SQL and Python agree on, and writing many rows down."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset, Outcome, State, recipe_in_force
from thumbnails.models.assets import NO_THUMBNAIL, Change, Record
from thumbnails.rendering import Facts

pytestmark = pytest.mark.django_db


def record(asset: ImageAsset, **columns: object) -> Record:
    values: dict[str, object] = {
        "thumbnail_path": asset.thumbnail_name,
        "thumbnail_width": 64,
        "thumbnail_height": 48,
        "thumbnail_bytes": 1000,
        "thumbnail_generated_at": timezone.now(),
        "thumbnail_recipe": recipe_in_force().digest,
        "thumbnail_source": asset.source_version,
    }
    return Record(**{**values, **columns})  # type: ignore[arg-type]


def test_states__sql_and_python_agree_on_every_combination() -> None:
    """Every mixture of path, error, recipe and source is in exactly one state."""
    combinations = itertools.product(
        ["", "82/1.jpg"], ["", "unreadable"], [recipe_in_force().digest, "old", ""], ["v1", "v0"]
    )
    for number, (path, error, recipe, source) in enumerate(combinations):
        ImageAsset.objects.create(
            original=f"{number}.jpg",
            source_version="v1",
            thumbnail_path=path,
            thumbnail_error=error,
            thumbnail_recipe=recipe,
            thumbnail_source=source,
        )
    by_sql: dict[int, list[State]] = {}
    for state in State:
        for asset in ImageAsset.objects.in_state(state):
            by_sql.setdefault(asset.pk, []).append(state)
    assets = list(ImageAsset.objects.all())
    assert len(assets) == 24
    assert by_sql == {asset.pk: [asset.state] for asset in assets}
    assert sum(ImageAsset.objects.count_by_state().values()) == 24
    assert set(ImageAsset.objects.not_fresh()) == {
        asset for asset in assets if asset.state != State.FRESH
    }


def test_count_by_state__is_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        assert ImageAsset.objects.count_by_state() == dict.fromkeys(State, 0)


def test_write_down__each_row_gets_its_own(make_asset: MakeAsset) -> None:
    first, second, third = make_asset(), make_asset(), make_asset()
    made_at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    ImageAsset.objects.write_down(
        [
            Change(
                asset_id=third.pk,
                outcome=Outcome.RENDERED,
                record=record(third, thumbnail_bytes=333, thumbnail_generated_at=made_at),
                source_version="9-9",
                facts=Facts(width=9, height=8, format="PNG", mode="P", orientation=6),
            ),
            Change(
                asset_id=first.pk,
                outcome=Outcome.RENDERED,
                record=record(first, thumbnail_bytes=111),
            ),
            Change(asset_id=second.pk, outcome=Outcome.FRESH),
        ]
    )
    for asset in (first, second, third):
        asset.refresh_from_db()
    assert [first.thumbnail_bytes, second.thumbnail_bytes, third.thumbnail_bytes] == [
        111,
        None,
        333,
    ]
    assert third.thumbnail_generated_at == made_at
    assert (third.width, third.mode, third.orientation, third.source_version) == (9, "P", 6, "9-9")
    assert first.width == 64


def test_write_down__purge_clears_the_whole_record(make_asset: MakeAsset) -> None:
    asset = make_asset()
    ImageAsset.objects.write_down(
        [Change(asset_id=asset.pk, outcome=Outcome.RENDERED, record=record(asset))]
    )
    ImageAsset.objects.write_down(
        [Change(asset_id=asset.pk, outcome=Outcome.PURGED, record=NO_THUMBNAIL)]
    )
    asset.refresh_from_db()
    assert asset.state == State.MISSING
    assert asset.thumbnail_generated_at is None
    assert asset.thumbnail_recipe == asset.thumbnail_source == ""


def test_write_down__text_of_users_is_data(make_asset: MakeAsset) -> None:
    asset = make_asset()
    hostile = "'; DROP TABLE thumbnails_imageasset; -- %s %(id)s ✓"
    failed = record(asset, thumbnail_error="unreadable", thumbnail_error_detail=hostile)
    ImageAsset.objects.write_down(
        [Change(asset_id=asset.pk, outcome=Outcome.FAILED, record=failed)]
    )
    asset.refresh_from_db()
    assert asset.thumbnail_error_detail == hostile


def test_write_down__nothing_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        ImageAsset.objects.write_down([Change(asset_id=1, outcome=Outcome.FRESH)])


def test_dates__both_days_are_included(make_asset: MakeAsset) -> None:
    asset = make_asset()
    ImageAsset.objects.update(created_at=datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    day = date(2026, 3, 31)
    assert list(ImageAsset.objects.created_from(day).created_to(day)) == [asset]
    assert not ImageAsset.objects.created_from(date(2026, 4, 1)).exists()
    assert not ImageAsset.objects.created_to(date(2026, 3, 30)).exists()


def test_thumbnail_url__costs_no_query(
    make_asset: MakeAsset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        make_asset()
    assets = list(ImageAsset.objects.all())
    with django_assert_num_queries(0):
        urls = {asset.thumbnail_url for asset in assets}
    assert len(urls) == 5


def test_display_size__is_that_of_the_upright_thumbnail() -> None:
    asset = ImageAsset(width=4000, height=3000, orientation=6)
    assert asset.display_size == (192, 256)
    assert ImageAsset().display_size is None

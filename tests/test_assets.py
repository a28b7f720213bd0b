"""Assets: four states that SQL and Python agree on, and results of many saved at once."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from datetime import UTC, date, datetime

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset, Outcome, State, recipe_in_force
from thumbnails.models.results import (
    NO_FAILURE,
    NO_THUMBNAIL,
    Failure,
    Read,
    Record,
    Result,
    save_results,
)
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


def failure(asset: ImageAsset, detail: str = "") -> Failure:
    return Failure(
        thumbnail_error="unreadable",
        thumbnail_error_detail=detail,
        thumbnail_error_recipe=recipe_in_force().digest,
        thumbnail_error_source=asset.source_version,
    )


def rendered(asset: ImageAsset, **columns: object) -> Result:
    return Result(
        asset_id=asset.pk,
        outcome=Outcome.RENDERED,
        read=Read.of(asset),
        record=record(asset, **columns),
        failure=NO_FAILURE,
    )


def test_states__sql_and_python_agree_on_every_combination() -> None:
    """Every mixture of path, error, recipes and sources is in exactly one state."""
    recipes, sources = [recipe_in_force().digest, "old", ""], ["v1", "v0"]
    combinations = itertools.product(
        ["", "82/1.jpg"], ["", "unreadable"], recipes, sources, recipes, sources
    )
    for number, values in enumerate(combinations):
        path, error, recipe, source, failed_recipe, failed_source = values
        ImageAsset.objects.create(
            original=f"{number}.jpg",
            source_version="v1",
            thumbnail_path=path,
            thumbnail_error=error,
            thumbnail_recipe=recipe,
            thumbnail_source=source,
            thumbnail_error_recipe=failed_recipe,
            thumbnail_error_source=failed_source,
        )
    by_sql: dict[int, list[State]] = {}
    for state in State:
        for asset in ImageAsset.objects.in_state(state):
            by_sql.setdefault(asset.pk, []).append(state)
    assets = list(ImageAsset.objects.all())
    assert len(assets) == 144
    assert by_sql == {asset.pk: [asset.state] for asset in assets}
    assert sum(ImageAsset.objects.count_by_state().values()) == 144
    assert set(ImageAsset.objects.not_fresh()) == {
        asset for asset in assets if asset.state != State.FRESH
    }


def test_count_by_state__is_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        assert ImageAsset.objects.count_by_state() == dict.fromkeys(State, 0)


def test_state__a_failure_counts_for_its_recipe_and_original_alone(make_asset: MakeAsset) -> None:
    asset = make_asset()
    save_results([replace(rendered(asset), outcome=Outcome.FAILED, failure=failure(asset))])
    states = [ImageAsset.objects.get().state]
    ImageAsset.objects.update(thumbnail_error_recipe="0ld")
    states.append(ImageAsset.objects.get().state)
    ImageAsset.objects.update(source_version="9-9")
    states.append(ImageAsset.objects.get().state)
    # At first it is failed though its thumbnail is there, and true.
    assert states == [State.FAILED, State.FRESH, State.STALE]


# --- saving results -------------------------------------------------------------------------------


def test_save_results__each_row_gets_its_own(make_asset: MakeAsset) -> None:
    first, second, third = make_asset(), make_asset(), make_asset()
    made_at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    void = save_results(
        [
            replace(
                rendered(third, thumbnail_bytes=333, thumbnail_generated_at=made_at),
                source_version="9-9",
                facts=Facts(width=9, height=8, format="PNG", mode="P", orientation=6),
            ),
            rendered(first, thumbnail_bytes=111),
            Result(asset_id=second.pk, outcome=Outcome.FRESH),
        ]
    )
    assert void == []
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


def test_save_results__purge_clears_the_whole_record(make_asset: MakeAsset) -> None:
    asset = make_asset()
    save_results([rendered(asset)])
    asset.refresh_from_db()
    purged = Result(
        asset_id=asset.pk, outcome=Outcome.PURGED, read=Read.of(asset), record=NO_THUMBNAIL
    )
    save_results([purged])
    asset.refresh_from_db()
    assert asset.state == State.MISSING
    assert asset.thumbnail_generated_at is None
    assert asset.thumbnail_recipe == asset.thumbnail_source == ""


def test_save_results__a_failure_leaves_the_thumbnail(make_asset: MakeAsset) -> None:
    asset = make_asset()
    save_results([rendered(asset)])
    asset.refresh_from_db()
    before = record_of(asset)
    failed = Result(
        asset_id=asset.pk, outcome=Outcome.FAILED, read=Read.of(asset), failure=failure(asset)
    )
    save_results([failed])
    asset.refresh_from_db()
    assert asset.state == State.FAILED
    assert record_of(asset) == before


def record_of(asset: ImageAsset) -> dict[str, object]:
    return {field.name: getattr(asset, field.name) for field in fields(Record)}


def test_save_results__text_of_users_is_data(make_asset: MakeAsset) -> None:
    asset = make_asset()
    hostile = "'; DROP TABLE thumbnails_imageasset; -- %s %(id)s ✓"
    failed = Result(
        asset_id=asset.pk,
        outcome=Outcome.FAILED,
        read=Read.of(asset),
        failure=failure(asset, detail=hostile),
    )
    save_results([failed])
    asset.refresh_from_db()
    assert asset.thumbnail_error_detail == hostile


def test_save_results__nothing_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        assert save_results([Result(asset_id=1, outcome=Outcome.FRESH)]) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"original": "another.jpg"},
        {"source_version": "9-9"},
        {"thumbnail_revision": 7},
        None,  # deleted
    ],
)
def test_save_results__of_a_row_that_changed_is_void(
    make_asset: MakeAsset, columns: dict[str, object] | None
) -> None:
    changed, other = make_asset(), make_asset()
    results = [rendered(changed), rendered(other)]
    row = ImageAsset.objects.filter(pk=changed.pk)
    row.delete() if columns is None else row.update(**columns)
    assert save_results(results) == [changed.pk]
    assert not row.exclude(thumbnail_path="").exists()
    other.refresh_from_db()
    assert other.state == State.FRESH


def test_save_results__of_two_at_once_the_later_one_is_void(make_asset: MakeAsset) -> None:
    asset = make_asset()
    first, second = rendered(asset, thumbnail_bytes=1), rendered(asset, thumbnail_bytes=2)
    assert save_results([first]) == []
    assert save_results([second]) == [asset.pk]
    asset.refresh_from_db()
    assert (asset.thumbnail_bytes, asset.thumbnail_revision) == (1, 1)


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

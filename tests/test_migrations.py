"""Migrations that move what rows say: forwards, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, AFTER = ("thumbnails", "0004_desk"), ("thumbnails", "0005_kept_thumbnails")


def executor_of_single_ones() -> MigrationExecutor:
    """Knows the migrations that the squashed one replaces."""
    executor = MigrationExecutor(connection)
    # The stubs lack it.
    executor.loader.replace_migrations = False  # type: ignore[attr-defined]
    executor.loader.build_graph()
    return executor


def migrate(to: tuple[str, str]) -> Any:
    """The model of an image as it is then."""
    executor = executor_of_single_ones()
    executor.migrate([to])
    return executor.loader.project_state([to]).apps.get_model("thumbnails", "ImageAsset")


@pytest.fixture
def back_at_the_end() -> Iterator[None]:
    yield
    executor = executor_of_single_ones()
    executor.migrate(executor.loader.graph.leaf_nodes())


def columns(asset: Any, kind: str) -> tuple[str, str]:
    return getattr(asset, f"{kind}_recipe"), getattr(asset, f"{kind}_source")


def test_0005__failures_get_columns_of_their_own_and_give_them_back(back_at_the_end: None) -> None:
    old = migrate(BEFORE)
    made = {"thumbnail_recipe": "recipe", "thumbnail_source": "1-1"}
    failed = {**made, "thumbnail_error": "unreadable", "thumbnail_error_detail": "It is damaged."}
    old.objects.create(original="failed.jpg", **failed)
    old.objects.create(original="fresh.jpg", thumbnail_path="00/1.jpg", **made)
    old.objects.create(original="missing.jpg")

    new = migrate(AFTER)
    assets = {asset.original.name: asset for asset in new.objects.all()}
    assert columns(assets["failed.jpg"], "thumbnail") == ("", "")
    assert columns(assets["failed.jpg"], "thumbnail_error") == ("recipe", "1-1")
    assert assets["failed.jpg"].thumbnail_error_detail == "It is damaged."
    assert columns(assets["fresh.jpg"], "thumbnail") == ("recipe", "1-1")
    assert columns(assets["fresh.jpg"], "thumbnail_error") == ("", "")
    assert columns(assets["missing.jpg"], "thumbnail_error") == ("", "")
    kept = {"thumbnail_error_recipe": "newer", "thumbnail_error_source": "2-2"}
    new.objects.create(
        original="kept.jpg", thumbnail_path="00/2.jpg", thumbnail_error="crashed", **made, **kept
    )

    old = migrate(BEFORE)
    assets = {asset.original.name: asset for asset in old.objects.all()}
    assert columns(assets["failed.jpg"], "thumbnail") == ("recipe", "1-1")
    assert assets["failed.jpg"].thumbnail_error == "unreadable"
    assert columns(assets["fresh.jpg"], "thumbnail") == ("recipe", "1-1")
    assert columns(assets["missing.jpg"], "thumbnail") == ("", "")
    # That of the thumbnail that is there.
    assert columns(assets["kept.jpg"], "thumbnail") == ("recipe", "1-1")

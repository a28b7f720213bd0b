"""Migrations that move what rows say: forwards, and back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from thumbnails.models import ImageAsset, TrainingSession

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)
BEFORE, AFTER = "0004_desk", "0005_kept_thumbnails"


def executor_of_single_ones() -> MigrationExecutor:
    """Knows the migrations that the squashed one replaces."""
    executor = MigrationExecutor(connection)
    # The stubs lack it.
    executor.loader.replace_migrations = False  # type: ignore[attr-defined]
    executor.loader.build_graph()
    return executor


def apps_at(migration: str) -> Any:
    """Migrates there. Returns the models as they are then."""
    executor = executor_of_single_ones()
    executor.migrate([("thumbnails", migration)])
    return executor.loader.project_state([("thumbnails", migration)]).apps


@pytest.fixture
def back_at_the_end() -> Iterator[None]:
    yield
    executor = executor_of_single_ones()
    executor.migrate(executor.loader.graph.leaf_nodes())


def columns(asset: Any, kind: str) -> tuple[str, str]:
    return getattr(asset, f"{kind}_recipe"), getattr(asset, f"{kind}_source")


def test_0005__failures_get_columns_of_their_own_and_give_them_back(back_at_the_end: None) -> None:
    old = apps_at(BEFORE).get_model("thumbnails", "ImageAsset")
    made = {"thumbnail_recipe": "recipe", "thumbnail_source": "1-1"}
    failed = {**made, "thumbnail_error": "unreadable", "thumbnail_error_detail": "It is damaged."}
    old.objects.create(original="failed.jpg", **failed)
    old.objects.create(original="fresh.jpg", thumbnail_path="00/1.jpg", **made)
    old.objects.create(original="missing.jpg")

    new = apps_at(AFTER).get_model("thumbnails", "ImageAsset")
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

    old = apps_at(BEFORE).get_model("thumbnails", "ImageAsset")
    assets = {asset.original.name: asset for asset in old.objects.all()}
    assert columns(assets["failed.jpg"], "thumbnail") == ("recipe", "1-1")
    assert assets["failed.jpg"].thumbnail_error == "unreadable"
    assert columns(assets["fresh.jpg"], "thumbnail") == ("recipe", "1-1")
    assert columns(assets["missing.jpg"], "thumbnail") == ("", "")
    # That of the thumbnail that is there.
    assert columns(assets["kept.jpg"], "thumbnail") == ("recipe", "1-1")


def test_0007__images_stay_in_their_sessions_forwards_and_back(back_at_the_end: None) -> None:
    old = apps_at("0006_names")
    sea, land, empty = (
        old.get_model("thumbnails", "TrainingSession").objects.create(name=name)
        for name in ("sea", "land", "empty")
    )
    made = {
        name: old.get_model("thumbnails", "ImageAsset").objects.create(
            original=f"{name}.jpg", session=session
        )
        for name, session in (("boat", sea), ("fish", sea), ("tree", land), ("sky", None))
    }

    new = apps_at("0007_sessions")
    members = new.get_model("thumbnails", "SessionImage").objects
    assert set(members.values_list("session_id", "image_id", "created_at")) == {
        (session.pk, made[name].pk, made[name].created_at)
        for name, session in (("boat", sea), ("fish", sea), ("tree", land))
    }
    # As a process of the version before, which is not restarted yet.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE thumbnails_imageasset SET session_id = %s", [empty.pk])
    sessions = new.get_model("thumbnails", "TrainingSession").objects
    sessions.get(pk=empty.pk).delete()
    sessions.create(name="sea").delete()
    members.create(session_id=land.pk, image_id=made["boat"].pk, created_at=made["boat"].created_at)

    old = apps_at("0006_names")
    kept = old.get_model("thumbnails", "ImageAsset").objects.values_list("original", "session_id")
    assert dict(kept) == {
        "boat.jpg": sea.pk,
        "fish.jpg": sea.pk,
        "tree.jpg": land.pk,
        "sky.jpg": None,
    }


def test_0007__processes_of_the_version_before_add_images_and_read_them() -> None:
    old = executor_of_single_ones().loader.project_state([("thumbnails", "0006_names")])
    images = old.apps.get_model("thumbnails", "ImageAsset").objects
    session = old.apps.get_model("thumbnails", "TrainingSession").objects.create(name="sea")
    added = images.create(original="boat.jpg", session=session)
    TrainingSession.objects.all().delete()
    assert images.get().session_id == session.pk
    assert ImageAsset.objects.get().pk == added.pk


def test_0008__counts_of_runs_that_are_not_over_become_those_of_the_main_folder(
    back_at_the_end: None,
) -> None:
    runs = apps_at("0007_sessions").get_model("thumbnails", "Run").objects
    of_run = {"kind": "regenerate", "origin": "admin"}
    missing = {"missing_in_a_row": 20, "pause_reason": "20 are missing.", "resume_at": NOW}
    paused = runs.create(**of_run, **missing, state="paused")
    running = runs.create(**of_run, storage_errors=3, ignores_missing=True)
    runs.create(**of_run)
    runs.create(**of_run, storage_errors=3, state="done")

    new = apps_at("0008_roots")
    roots = new.get_model("thumbnails", "RunRoot").objects.values_list(
        "run", "root", "storage_errors", "missing_in_a_row", "ignores_missing", "away"
    )
    assert set(roots) == {
        (paused.pk, "", 0, 20, False, "20 are missing."),
        (running.pk, "", 3, 0, True, ""),
    }
    # As a process of the version before, which is not restarted yet.
    added = runs.create(**of_run, storage_errors=2)
    added.chunks.create(number=1, asset_ids=[1])
    assert runs.get(pk=added.pk).storage_errors == 2
    # And one of this version.
    new.get_model("thumbnails", "Run").objects.create(**of_run)
    assert runs.order_by("pk").reverse()[0].storage_errors == 0
    assert set(new.get_model("thumbnails", "Chunk").objects.values_list("root")) == {("",)}

"""Which recipe is in force: that of the process that was started last."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from tests import profiles
from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset, State, recipes
from thumbnails.models.recipes import KnownRecipe, announce, own_recipe, recipe_in_force
from thumbnails.rendering.recipe import RENDERER_VERSION
from thumbnails.upkeep.images import serving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def new_process(only_recipe: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows nothing yet, and looks each time."""
    settings.THUMBNAIL_QUALITY = 84
    monkeypatch.setattr(recipes, "LOOK_SECONDS", -1.0)


def started(digest: str, *, seconds_ago: float) -> KnownRecipe:
    """A process of another recipe."""
    return KnownRecipe.objects.create(
        digest=digest,
        size_px=64,
        quality=50,
        background=[255, 255, 255],
        renderer=1,
        started_at=timezone.now() - timedelta(seconds=seconds_ago),
    )


def test_in_force__is_the_own_one_where_no_process_has_said_anything() -> None:
    assert recipe_in_force() == own_recipe()
    assert not KnownRecipe.objects.exists()


def test_announce__puts_the_own_one_in_force() -> None:
    started("another", seconds_ago=3600)
    assert recipe_in_force().quality == 50
    announce()
    assert recipe_in_force() == own_recipe()
    assert recipes.is_own_in_force()
    assert KnownRecipe.objects.get(digest=own_recipe().digest).recipe == own_recipe()


def test_announce__keeps_the_variants(settings: Settings) -> None:
    plain = own_recipe().digest
    settings.THUMBNAIL_VARIANTS = "@2x.jpg=512, .webp=256"
    announce()
    known = KnownRecipe.objects.get()
    assert known.recipe == own_recipe()
    assert known.digest != plain
    renderer = f"renderer {RENDERER_VERSION}"
    assert str(known) == f"256 px, quality 84, {renderer}, .webp 256 px, @2x.jpg 512 px"


def test_announce__keeps_the_profile_for_cmyk_by_its_bytes(
    settings: Settings, tmp_path: Path
) -> None:
    digests = {own_recipe().digest}
    for name, content in (("a", profiles.red_cyan()), ("b", profiles.red_cyan())):
        (tmp_path / name).write_bytes(content)
        settings.THUMBNAIL_CMYK_PROFILE = str(tmp_path / name)
        digests.add(own_recipe().digest)
    assert len(digests) == 2
    announce()
    known = KnownRecipe.objects.get()
    assert known.recipe == own_recipe()
    assert f"CMYK by profile {own_recipe().cmyk_profile}" in str(known)
    another = profiles.red_cyan(ink_lab=(30.0, 0.0, 0.0))
    (tmp_path / "a").write_bytes(another)
    settings.THUMBNAIL_CMYK_PROFILE = str(tmp_path / "a")
    assert own_recipe().digest not in digests


def test_in_force__is_the_one_that_was_started_last() -> None:
    announce()
    later = started("another", seconds_ago=-60)
    assert recipe_in_force() == later.recipe
    assert not recipes.is_own_in_force()


def test_in_force__of_two_that_were_started_at_once_is_the_same_for_all() -> None:
    moment = started("bbb", seconds_ago=0).started_at
    started("aaa", seconds_ago=0)
    KnownRecipe.objects.filter(digest="bbb").update(size_px=32)
    KnownRecipe.objects.update(started_at=moment)
    assert recipe_in_force().size_px == 64  # of the first by name


def test_announce__once_a_process_does_not_take_it_back() -> None:
    announce()
    later = started("another", seconds_ago=-60)
    announce()
    assert recipe_in_force() == later.recipe


def test_announce__is_about_when_the_process_was_started_and_not_about_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that met no run for an hour is not newer for that."""
    later = started("another", seconds_ago=60)
    monkeypatch.setattr(recipes, "_started_at", time.monotonic() - 3600)
    announce()
    assert recipe_in_force() == later.recipe


def test_rollback__puts_the_old_one_in_force_again(settings: Settings) -> None:
    old = own_recipe()
    announce()
    settings.THUMBNAIL_QUALITY = 50
    announce()
    assert recipe_in_force().quality == 50
    settings.THUMBNAIL_QUALITY = 84
    announce()
    assert recipe_in_force() == old
    assert KnownRecipe.objects.count() == 2


def fail() -> None:
    raise OperationalError("away")


def test_database_away__the_own_one_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    started("another", seconds_ago=0)
    monkeypatch.setattr(recipes, "look", fail)
    assert recipe_in_force() == own_recipe()


def test_database_away__what_was_known_stays_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    later = started("another", seconds_ago=0)
    assert recipe_in_force() == later.recipe
    monkeypatch.setattr(recipes, "look", fail)
    assert recipe_in_force() == later.recipe


def test_database_away__it_is_announced_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "AGAIN_SECONDS", 0.0)
    with monkeypatch.context() as away:
        away.setattr(recipes, "look", fail)
        announce()
    assert not KnownRecipe.objects.exists()
    announce()
    assert KnownRecipe.objects.get().digest == own_recipe().digest


def test_labels__are_for_people() -> None:
    announce()
    started("another", seconds_ago=60)
    found = recipes.labels()
    assert found["another"] == "64 px, quality 50, renderer 1"
    own = own_recipe()
    assert found[own.digest] == f"256 px, quality 84, renderer {own.renderer}"


def test_states__go_by_the_one_in_force(make_asset: MakeAsset) -> None:
    serving.serve(make_asset())
    assert ImageAsset.objects.get().state == State.FRESH
    assert ImageAsset.objects.fresh().count() == 1
    started("another", seconds_ago=-60)
    asset = ImageAsset.objects.get()
    assert asset.state == State.STALE
    assert ImageAsset.objects.stale().count() == 1
    # This process makes nothing by its own recipe any more: it serves what is there.
    assert serving.serve(asset).content
    assert ImageAsset.objects.get().thumbnail_revision == asset.thumbnail_revision

"""What other apps are told of changed thumbnails: once, after the commit, in batches."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import start_here, work
from thumbnails.models import ImageAsset, Run, State, changes
from thumbnails.models.recipes import UNSTAMPED
from thumbnails.models.results import save_results
from thumbnails.rendering import Facts, fingerprint_of
from thumbnails.signals import Change, thumbnails_changed
from thumbnails.upkeep.images import freshness, importing, pools, serving
from thumbnails.upkeep.reports import audit

pytestmark = pytest.mark.django_db(transaction=True)

ADOPTED = fingerprint_of(UNSTAMPED, "")

Told = list[dict[str, Any]]


def message(change: Change, *assets: ImageAsset, run: Run | None = None) -> dict[str, Any]:
    """What is told of these assets, as they were before."""
    urls = []
    for asset in assets:
        url = f"/thumbnails/{asset.thumbnail_name}"
        after = {Change.RENDERED: asset.fingerprint, Change.ADOPTED: ADOPTED}.get(change)
        versions = dict.fromkeys(filter(None, (asset.recorded_fingerprint, after)))
        urls += [url, *(f"{url}?v={version}" for version in versions)]
    return {
        "asset_ids": [asset.pk for asset in assets],
        "urls": urls,
        "change": change,
        "run": run and run.pk,
    }


def again(asset: ImageAsset) -> ImageAsset:
    return ImageAsset.objects.get(pk=asset.pk)


def test_runs__tell_of_what_they_change(make_asset: MakeAsset, told: Told) -> None:
    first, second, broken = make_asset(), make_asset(), make_asset(pictures.truncated())
    work(run := start_here())
    assert told == [message(Change.RENDERED, first, second, run=run)]
    told.clear()
    work(start_here(assets=ImageAsset.objects.exclude(pk=broken.pk)))
    assert told == []  # they are fresh
    ImageAsset.objects.filter(pk=first.pk).update(thumbnail_recipe="old")
    stale, rendered = again(first), again(second)
    work(forced := start_here(force=True, assets=ImageAsset.objects.exclude(pk=broken.pk)))
    work(purge := start_here(Run.Kind.PURGE, ImageAsset.objects.filter(pk=second.pk)))
    assert told == [
        message(Change.RENDERED, stale, rendered, run=forced),
        message(Change.PURGED, rendered, run=purge),
    ]
    assert len(told[0]["urls"]) == 5


def test_single_changes__are_told_without_a_run(
    make_asset: MakeAsset, thumbnail_dir: Path, told: Told, originals_dir: Path
) -> None:
    asset = make_asset()
    serving.serve(asset)
    rendered = again(asset)
    serving.serve(rendered)
    assert told == [message(Change.RENDERED, asset)]
    told.clear()
    with (originals_dir / str(asset)).open("rb") as file:
        facts = Facts(width=64, height=48, format="JPEG", mode="RGB", orientation=1)
        importing.replace_original(again(asset), file, facts, name="other.jpg")
    assert told == [message(Change.PURGED, rendered)]
    assert not (thumbnail_dir / asset.thumbnail_name).exists()
    told.clear()
    (thumbnail_dir / asset.thumbnail_name).write_bytes(pictures.jpeg())
    audit.audit(adopt=True)
    adopted = again(asset)
    freshness.purge_now(asset.pk)
    assert told == [message(Change.ADOPTED, asset), message(Change.PURGED, adopted)]


def test_rolled_back__is_not_told(make_asset: MakeAsset, told: Told) -> None:
    asset = make_asset()
    with transaction.atomic():
        freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
        assert told == []
        transaction.set_rollback(True)
    assert told == []
    with transaction.atomic():
        serving.serve(again(asset))
        assert told == []
    assert told == [message(Change.RENDERED, asset)]


def test_void__is_told_by_whoever_saved(make_asset: MakeAsset, told: Told) -> None:
    asset = make_asset()
    pool = pools.worker_pool(large=False)
    first, second = freshness.refresh(asset, pool), freshness.refresh(asset, pool)
    assert save_results([first]) == []
    assert save_results([second]) == [asset.pk]
    assert told == [message(Change.RENDERED, asset)]


def test_deletions__of_a_transaction_are_told_together(
    make_asset: MakeAsset, told: Told, thumbnail_dir: Path
) -> None:
    assets = [make_asset() for _ in range(4)]
    for asset in assets:
        serving.serve(asset)
    told.clear()
    deleted = message(Change.DELETED, *map(again, assets[:3]))
    with transaction.atomic():
        again(assets[0]).delete()
        with transaction.atomic():
            again(assets[3]).delete()
            transaction.set_rollback(True)
        ImageAsset.objects.filter(pk__in=[asset.pk for asset in assets[1:3]]).delete()
        assert told == []
        assert (thumbnail_dir / assets[0].thumbnail_name).exists()
    assert told == [deleted]
    assert [path.name for path in thumbnail_dir.rglob("*.jpg")] == [f"{assets[3].pk}.jpg"]


def test_deletion__of_what_was_loaded_in_part_is_told(make_asset: MakeAsset, told: Told) -> None:
    asset = make_asset()
    ImageAsset.objects.only("pk").delete()
    assert told == [message(Change.DELETED, asset)]


def test_urls__are_of_the_variants_that_there_were_and_are(
    make_asset: MakeAsset, told: Told, settings: Settings
) -> None:
    asset = make_asset()
    settings.THUMBNAIL_VARIANTS = "@2x.jpg=50"
    serving.serve(asset)
    before = again(asset)
    settings.THUMBNAIL_VARIANTS = ".webp=20"
    told.clear()
    freshness.refresh_now(asset.pk, pools.worker_pool(large=False))
    [rendered] = told
    stem = f"/thumbnails/{asset.thumbnail_name}".removesuffix(".jpg")
    versions = ("", f"?v={before.recorded_fingerprint}", f"?v={again(asset).fingerprint}")
    assert rendered["urls"] == [
        f"{stem}{suffix}{version}"
        for suffix in (".jpg", "@2x.jpg", ".webp")
        for version in versions
    ]


def test_batches__are_of_limited_size(
    make_asset: MakeAsset, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "BATCH", 2)
    assets = [make_asset() for _ in range(3)]
    work(run := start_here())
    assert told == [
        message(Change.RENDERED, *assets[:2], run=run),
        message(Change.RENDERED, assets[2], run=run),
    ]


def test_receiver__that_raises_disturbs_nothing(
    make_asset: MakeAsset, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("no wire")

    asset = make_asset()
    thumbnails_changed.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            work(run := start_here())
    finally:
        thumbnails_changed.disconnect(fail)
    assert run.state == Run.State.DONE
    assert again(asset).state == State.FRESH
    assert told == [message(Change.RENDERED, asset, run=run)]
    assert "no wire" in caplog.text


def test_urls__that_the_project_does_not_have_disturb_nothing(
    make_asset: MakeAsset, told: Told, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A project that serves the cache in another way."""
    settings.ROOT_URLCONF = "thumbnails.gallery_urls"
    work(run := start_here(assets=ImageAsset.objects.filter(pk=make_asset().pk)))
    assert run.progress().rendered == 1
    assert told == []
    assert "'thumbnails' is not a registered namespace" in caplog.text

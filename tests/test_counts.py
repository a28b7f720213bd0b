"""Numbers about all assets: right, cheap to ask for, and counted in small pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import NoThumbnail, QueueDown
from thumbnails.models import CachedCount, ImageAsset, State, recipe_in_force
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.images.acceptance import accept_failures
from thumbnails.upkeep.reports import counts
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def varied(make_asset: MakeAsset, settings: Settings) -> list[ImageAsset]:
    """Assets in every state, of several kinds of originals."""
    contents = [
        *(pictures.jpeg(orientation=orientation) for orientation in (1, 1, 3, 6)),
        pictures.png(mode="P"),
        pictures.jpeg(mode="CMYK"),
        pictures.jpeg(pictures.scene(1300, 900)),
        pictures.gif(transparent=True, frames=3),
        pictures.truncated(),
        pictures.truncated(),
        pictures.truncated(),
    ]
    made = [make_asset(content) for content in contents]
    for number, asset in enumerate(made[1:]):
        if number == 3:  # these have variants
            settings.THUMBNAIL_VARIANTS = "@2x.jpg=512, .webp=256"
        try:
            serving.serve(asset)
        except NoThumbnail:
            continue
    ImageAsset.objects.filter(pk=made[2].pk).update(thumbnail_recipe="old")
    ImageAsset.objects.filter(pk=made[3].pk).update(source_version="newer")
    accept_failures(ImageAsset.objects.filter(pk=made[-1].pk))
    lost = ImageAsset.objects.filter(pk=made[-2].pk)
    lost.update(thumbnail_error="source_missing", width=None, height=None)
    # Imported before there were facts.
    nothing: dict[str, Any] = {"bit_depth": None, "has_alpha": None, "frames": None}
    ImageAsset.objects.filter(pk=made[0].pk).update(facts_version=0, compression="", **nothing)
    return list(ImageAsset.objects.all())


@pytest.fixture
def large_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of assets, even none, is too many to be counted in a request."""
    monkeypatch.setattr(counts, "SMALL", -1)


def naive_states(assets: list[ImageAsset]) -> dict[str, Any]:
    counted = Counter(asset.state.value for asset in assets)
    return {state.value: counted[state.value] for state in State}


def naive_reasons(assets: list[ImageAsset]) -> dict[str, Any]:
    failed = [asset for asset in assets if asset.state == State.FAILED]
    return dict(Counter(asset.thumbnail_error for asset in failed))


def naive_accepted(assets: list[ImageAsset]) -> dict[str, Any]:
    accepted = [asset for asset in assets if asset.state == State.ACCEPTED]
    return dict(Counter(asset.thumbnail_error for asset in accepted))


def naive_recipes(assets: list[ImageAsset]) -> dict[str, Any]:
    return dict(Counter(asset.thumbnail_recipe for asset in assets if asset.thumbnail_path))


def naive_shards(assets: list[ImageAsset]) -> dict[str, Any]:
    shards: dict[str, list[ImageAsset]] = {}
    for asset in assets:
        if asset.thumbnail_path:
            shards.setdefault(asset.thumbnail_path[:2], []).append(asset)
    return {
        shard: [
            len(files),
            sum(asset.thumbnail_bytes or 0 for asset in files),
            min(
                asset.thumbnail_generated_at for asset in files if asset.thumbnail_generated_at
            ).isoformat(),
        ]
        for shard, files in shards.items()
    }


def naive_originals(assets: list[ImageAsset]) -> dict[str, Any]:
    return {
        "orientation": dict(Counter(str(asset.orientation) for asset in assets)),
        "format": dict(Counter(asset.format for asset in assets)),
        "mode": dict(Counter(asset.mode for asset in assets)),
    }


def naive_facts(assets: list[ImageAsset]) -> dict[str, Any]:
    columns: dict[str, Callable[[ImageAsset], str]] = {
        "compression": lambda asset: asset.compression,
        "bit-depth": lambda asset: str(asset.bit_depth or ""),
        "alpha": lambda asset: {True: "yes", False: "no", None: ""}[asset.has_alpha],
        "frames": lambda asset: ("1" if asset.frames == 1 else "2-") if asset.frames else "",
        "note": lambda asset: asset.note,
        "camera": lambda asset: asset.camera,
        "software": lambda asset: asset.software,
        "profile": lambda asset: asset.color_profile,
    }
    return {
        name: dict(Counter(filter(None, map(text_of, assets)))) for name, text_of in columns.items()
    }


def naive_sizes(assets: list[ImageAsset]) -> dict[str, Any]:
    counted = {"0": 0, "1": 0, "10": 0, "50": 0}
    for asset in assets:
        if asset.width and asset.height:
            pixels = asset.width * asset.height
            counted[[key for key in counted if float(key) * 1e6 <= pixels][-1]] += 1
    return counted


def naive_variants(assets: list[ImageAsset]) -> dict[str, Any]:
    found: dict[str, list[int]] = {}
    for asset in assets:
        for suffix, (_, _, size_bytes) in asset.thumbnail_variants.items():
            files, together = found.get(suffix, [0, 0])
            found[suffix] = [files + 1, together + size_bytes]
    return found


NAIVE = {
    "states": naive_states,
    "reasons": naive_reasons,
    "accepted": naive_accepted,
    "recipes": naive_recipes,
    "shards": naive_shards,
    "variants": naive_variants,
    "originals": naive_originals,
    "facts": naive_facts,
    "sizes": naive_sizes,
}


# --- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(counts.COUNTERS))
def test_counter__agrees_with_a_naive_count(varied: list[ImageAsset], name: str) -> None:
    assert counts.COUNTERS[name]() == NAIVE[name](varied)


@pytest.mark.parametrize("name", list(counts.COUNTERS))
def test_counter__of_an_empty_site(name: str) -> None:
    assert counts.COUNTERS[name]() == NAIVE[name]([])


@pytest.mark.parametrize("name", list(counts.COUNTERS))
def test_counter__takes_few_queries(
    varied: list[ImageAsset], name: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    # The suffixes of variants first; one for each fact that is any text.
    with django_assert_num_queries({"variants": 2, "facts": 4}.get(name, 1)):
        counts.COUNTERS[name]()


def test_tallies__are_the_same_when_counted_and_when_kept(varied: list[ImageAsset]) -> None:
    counted = counts.cached_counts()
    kept = counts.cached_counts()
    assert counted.values == kept.values == {name: NAIVE[name](varied) for name in NAIVE}
    assert counted.counted_at == kept.counted_at


# --- a small site ---------------------------------------------------------------------------------


def test_small_site__is_counted_as_it_is_asked_for(make_asset: MakeAsset) -> None:
    make_asset()
    found = counts.cached_counts()
    assert found["states"] == {"missing": 1, "fresh": 0, "stale": 0, "failed": 0, "accepted": 0}
    assert found.counted_at is not None
    assert timezone.now() - found.counted_at < timedelta(minutes=1)


def test_small_site__is_counted_once_a_second_for_all(
    make_asset: MakeAsset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_asset()
    counts.cached_counts()
    with django_assert_num_queries(2):  # what is kept, and whether it is small
        counts.cached_counts()
    make_asset()
    CachedCount.objects.update(counted_at=F("counted_at") - counts.OLD_AT_ONCE)
    assert counts.cached_counts()["states"]["missing"] == 2


def test_small_site__ends_after_so_many_assets(
    make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "SMALL", 1)
    make_asset()
    assert counts.cached_counts().counted_at is not None
    CachedCount.objects.all().delete()
    make_asset()
    assert counts.cached_counts().counted_at is None


# --- a large one ----------------------------------------------------------------------------------


def test_large_site__is_never_counted_by_who_asks(
    varied: list[ImageAsset],
    large_site: None,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_max_num_queries(2):  # what is kept, and whether it is small
        found = counts.cached_counts()
    assert found.values == {}
    assert found.counted_at is None
    assert found["states"] == {}
    assert not CachedCount.objects.exists()


def test_large_site__is_counted_one_number_at_a_time(
    varied: list[ImageAsset], large_site: None
) -> None:
    for number in range(1, len(counts.COUNTERS) + 1):
        assert counts.count_due() is not None
        assert CachedCount.objects.count() == number
        assert (counts.cached_counts().counted_at is None) == (number < len(counts.COUNTERS))
    assert counts.count_due() is None
    assert counts.cached_counts().values == {name: NAIVE[name](varied) for name in NAIVE}


def test_large_site__says_the_age_of_the_oldest_number(large_site: None) -> None:
    while counts.count_due():
        pass
    an_hour_ago = timezone.now() - timedelta(hours=1)
    CachedCount.objects.filter(name="shards").update(counted_at=an_hour_ago)
    assert counts.cached_counts().counted_at == an_hour_ago


def test_count_one__does_what_is_due_for_longest() -> None:
    while counts.count_due():
        pass
    now = timezone.now()
    CachedCount.objects.filter(name="sizes").update(counted_at=now - 2 * counts.OLD_AFTER)
    CachedCount.objects.filter(name="shards").update(counted_at=now - 3 * counts.OLD_AFTER)
    assert [counts.count_due() for _ in range(3)] == ["shards", "sizes", None]


def test_count_one__rests_after_a_slow_one() -> None:
    while counts.count_due():
        pass
    CachedCount.objects.update(
        took_seconds=3.0, counted_at=timezone.now() - timedelta(seconds=2.9 * counts.REST)
    )
    assert counts.count_due() is None
    CachedCount.objects.update(counted_at=timezone.now() - timedelta(seconds=3.1 * counts.REST))
    assert counts.count_due() is not None


def test_counting__counts_one_for_all_workers(queue_server: QueueServer) -> None:
    counts.count_in_turn()
    counts.count_in_turn()
    assert CachedCount.objects.count() == 1


def test_counting__with_the_queue_down_counts_nothing(queue_server: QueueServer) -> None:
    queue_server.kill()
    with pytest.raises(QueueDown):
        counts.count_in_turn()
    assert not CachedCount.objects.exists()


def test_worker__counts_beside_its_work(make_asset: MakeAsset, worker: StartWorker) -> None:
    make_asset()
    worker()
    wait_for(CachedCount.objects.exists, "the worker to count")


# --- another recipe -------------------------------------------------------------------------------


def test_recipe__another_one_voids_what_depends_on_it(
    varied: list[ImageAsset], large_site: None, settings: Settings
) -> None:
    while counts.count_due():
        pass
    settings.THUMBNAIL_SIZE = 64
    found = counts.cached_counts()
    assert set(found.values) == set(counts.COUNTERS) - counts.OF_RECIPE
    assert found.counted_at is None
    # They have no number to show, and come first.
    CachedCount.objects.exclude(name__in=counts.OF_RECIPE).update(
        counted_at=timezone.now() - timedelta(days=1)
    )
    assert {counts.count_due() for _ in counts.OF_RECIPE} == counts.OF_RECIPE
    assert counts.cached_counts()["states"] == naive_states(varied)
    assert counts.cached_counts()["states"]["fresh"] == 0


def test_tallies__of_another_version_are_left_alone(varied: list[ImageAsset]) -> None:
    CachedCount.objects.create(name="bygone", value=0, counted_at=timezone.now(), took_seconds=0)
    assert set(counts.cached_counts().values) == set(counts.COUNTERS)
    assert counts.cached_counts().counted_at is not None


def test_number_of__is_the_cached_count_on_a_large_site_and_unknown_on_a_small_one(
    varied: list[ImageAsset], monkeypatch: pytest.MonkeyPatch
) -> None:
    selections = [
        Selection(),
        Selection(states=(State.STALE, State.FAILED)),
        Selection(recipes=(recipe_in_force().digest, "none")),
        Selection(min_megapixels=0, max_megapixels=1),
    ]
    counts.cached_counts()
    assert {counts.number_of(selection) for selection in selections} == {None}
    monkeypatch.setattr(counts, "SMALL", 1)
    for selection in selections:
        assert counts.number_of(selection) == selection.assets().count()
    assert counts.number_of(Selection(states=(State.STALE,), formats=("PNG",))) is None
    assert counts.number_of(Selection(min_megapixels=0, max_megapixels=2)) is None

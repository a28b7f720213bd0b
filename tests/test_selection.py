"""Which images a selection means, and the words for it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, State, TrainingSession, recipe_in_force
from thumbnails.rendering import FACTS_VERSION
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def make(name: str, **columns: Any) -> ImageAsset:
    current = recipe_in_force().digest
    asset = ImageAsset(
        original=f"{name}.jpg",
        created_at=NOON,
        width=400,
        height=300,
        format="JPEG",
        mode="RGB",
        source_version="1-1",
        thumbnail_recipe=current,
        thumbnail_source="1-1",
        thumbnail_error_recipe=current,
        thumbnail_error_source="1-1",
        thumbnail_generated_at=NOON,
    )
    asset.save()
    columns = {"thumbnail_path": asset.thumbnail_name, **columns}
    ImageAsset.objects.filter(pk=asset.pk).update(**columns)
    return asset


FAILED = {"thumbnail_path": "", "thumbnail_error": "unreadable"}
DESCRIBED = {"facts_version": FACTS_VERSION}
CASES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("orientation", {"orientation": 6}, {"orientation": "2-8"}),
    ("format", {"format": "PNG"}, {"format": "png"}),
    ("mode", {"mode": "I;16"}, {"mode": "I;16"}),
    ("large", {"width": 60_000, "height": 50_000}, {"megapixels": "3000-"}),
    ("small", {"width": 10, "height": 10}, {"megapixels": "0-0.12"}),
    ("camera", {"camera": "A & B, C"}, {"camera": "A & B, C"}),
    ("software", {"software": "Ünï 1"}, {"software": "Ünï 1"}),
    ("no profile", {**DESCRIBED, "color_profile": ""}, {"profile": "none"}),
    ("progressive", {"compression": "progressive"}, {"compression": "progressive,none"}),
    ("deep", {"bit_depth": 16}, {"bit-depth": "10,16"}),
    ("transparent", {"has_alpha": True}, {"alpha": "yes"}),
    ("opaque", {"has_alpha": False}, {"alpha": "no"}),
    ("animated", {"frames": 3}, {"frames": "2-"}),
    ("of pages", {"frames": 3}, {"frames": "3"}),
    ("of few pages", {"frames": 3}, {"frames": "1-3"}),
    ("in part", {"note": "truncated"}, {"note": "truncated"}),
    ("state", FAILED, {"state": "failed,missing"}),
    ("reason", FAILED, {"reason": "unreadable"}),
    ("recipe", {"thumbnail_recipe": "0ld"}, {"recipe": "0ld"}),
    (
        "generated",
        {"thumbnail_generated_at": NOON - timedelta(days=1)},
        {"generated-before": "2026-01-31"},
    ),
    ("from", {"created_at": NOON + timedelta(days=1)}, {"from-date": "2026-02-01"}),
    ("to", {"created_at": NOON - timedelta(days=1)}, {"to-date": "2026-01-30"}),
    ("boat at sea", {}, {"name": "sea BOAT"}),
]


@pytest.mark.parametrize(("name", "columns", "texts"), CASES)
def test_selection__means_those_and_no_others(
    name: str, columns: dict[str, Any], texts: dict[str, str]
) -> None:
    meant = make(name, **columns)
    make("another")
    selection = conditions.selection_from(texts)
    assert list(selection.assets()) == [meant]
    assert not selection.is_everything


def test_selection__conditions_are_combined_with_and() -> None:
    session = TrainingSession.objects.create(name="S")
    meant = make("both", orientation=6)
    make("turned", orientation=6)
    for asset in (meant, make("of the session")):
        asset.set_sessions([session])
    selection = conditions.selection_from({"orientation": "6", "session": "S"})
    assert list(selection.assets()) == [meant]


def test_selection__sessions_by_name_and_by_id() -> None:
    one, other, unlike = (TrainingSession.objects.create(name=name) for name in ("S", "S", "s"))
    shared, own, different = (make(name) for name in ("shared", "own", "different"))
    shared.set_sessions([one, other, unlike])
    own.set_sessions([other])
    different.set_sessions([unlike])
    assert list(Selection(session="S").assets()) == [shared, own]
    assert Selection(session="S").assets().count() == 2
    assert list(Selection(session_id=one.pk).assets()) == [shared]
    assert list(Selection(session_id=other.pk).assets()) == [shared, own]
    with pytest.raises(UsageError, match="no session with the id 999"):
        Selection(session_id=999).assets()


@pytest.mark.parametrize("name", ["", " Sea", "Sea"])
def test_fields_of_session__are_its_name_unless_that_means_something_else(name: str) -> None:
    session = TrainingSession.objects.create(name=name)
    by_id, by_name = {"session_id": session.pk}, {"session": name}
    found = conditions.fields_of_session(session.pk)
    assert found == (by_name if name == "Sea" else by_id)
    texts = Selection(**found).as_texts()
    assert conditions.selection_from(texts) == Selection(**found)
    TrainingSession.objects.create(name=name)
    assert conditions.fields_of_session(session.pk) == by_id


def test_selection__a_reason_counts_only_while_the_asset_is_failed() -> None:
    make("failed by an older recipe", **{**FAILED, "thumbnail_error_recipe": "0ld"})
    make("failed before the original changed", **{**FAILED, "thumbnail_error_source": "0-0"})
    failed = make("failed", **FAILED)
    kept = make("failed, with its thumbnail kept", thumbnail_error="unreadable")
    assert set(Selection(reasons=(Reason.UNREADABLE,)).assets()) == {failed, kept}


def test_terms__there_and_back() -> None:
    others = [{"ids": "1,5-9"}, {"shard": "0a"}, {"older-than": "7d"}, {"session": "a b"}]
    others += [{"session-id": "7"}]
    for texts in [*(case[2] for case in CASES), *others]:
        selection = conditions.selection_from(texts)
        assert conditions.selection_from(selection.as_texts()) == selection
        assert set(selection.as_texts()) == set(texts)


def test_terms__as_options_for_a_shell() -> None:
    selection = Selection(
        session="a b", orientations=(2, 3, 6), states=(State.STALE,), from_date=date(2026, 1, 2)
    )
    assert (
        selection.as_options()
        == "--session 'a b' --from-date 2026-01-02 --orientation 2-3,6 --state stale"
    )


@pytest.mark.parametrize(
    "texts",
    [
        {"ids": "9-5"},
        {"orientation": "9"},
        {"orientation": "0"},
        {"orientation": "1-999999999"},
        {"format": "exe"},
        {"mode": "'; drop"},
        {"megapixels": "nan-"},
        {"megapixels": "5-5"},
        {"state": "wrong"},
        {"reason": "stale"},
        {"recipe": "%"},
        {"camera": "x" * 81},
        {"camera": "\u200b"},
        {"software": "\0"},
        {"profile": "\0none"},
        {"compression": "zip"},
        {"bit-depth": "0"},
        {"bit-depth": "8-16"},
        {"alpha": "maybe"},
        {"frames": "0"},
        {"frames": "5-2"},
        {"frames": "9999999999"},
        {"note": "odd"},
        {"generated-before": "2026-02-30"},
        {"shard": "zz"},
        {"session-id": "0"},
        {"session-id": "1,2"},
        {"older-than": "7"},
    ],
)
def test_terms__refuse_what_means_nothing(texts: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        conditions.selection_from(texts)


def test_terms__empty_ones_mean_nothing() -> None:
    assert conditions.selection_from({"state": " ", "ids": ""}).is_everything


def test_selection__tells_itself_in_words_and_json() -> None:
    selection = Selection(
        orientations=(6, 8), reasons=(Reason.TOO_LARGE,), generated_before=date(2026, 1, 2)
    )
    assert str(selection) == (
        "orientation 6,8, failed as too large, thumbnails made before 2026-01-02"
    )
    assert selection.as_json() == {
        "orientations": [6, 8],
        "reasons": ["too_large"],
        "generated_before": "2026-01-02",
    }

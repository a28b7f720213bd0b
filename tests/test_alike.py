"""From one wrong picture to all that share what is wrong with it."""

from __future__ import annotations

import html
import itertools
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from tests.conftest import RunCommand
from thumbnails.models import ImageAsset, TrainingSession, recipe_in_force
from thumbnails.rendering import FACTS_VERSION
from thumbnails.storage import originals
from thumbnails.upkeep.reports import alike, counts
from thumbnails.upkeep.reports.alike import Alike, choose_alike, find_alike
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db

LIST = "/admin/thumbnails/imageasset/"
Make = Callable[..., ImageAsset]


@pytest.fixture
def make() -> Make:
    """Rows of ordinary photos with fresh thumbnails, but for these columns."""

    current = recipe_in_force().digest
    ordinary: dict[str, Any] = {
        "format": "JPEG",
        "mode": "RGB",
        "width": 4000,
        "height": 3000,
        "bit_depth": 8,
        "has_alpha": False,
        "frames": 1,
        "compression": "baseline",
        "facts_version": FACTS_VERSION,
        "source_version": "1-1",
        "thumbnail_path": "aa/1.jpg",
        "thumbnail_recipe": current,
        "thumbnail_source": "1-1",
        "thumbnail_error_recipe": current,
        "thumbnail_error_source": "1-1",
    }
    numbers = itertools.count(1)

    def make_one(**columns: Any) -> ImageAsset:
        original = f"{next(numbers)}.jpg"
        return ImageAsset.objects.create(**{"original": original, **ordinary, **columns})

    return make_one


def numbers_of(found: Alike) -> dict[str, int]:
    return {fact.condition: fact.number for fact in found.facts}


def chosen_in(found: Alike) -> list[str]:
    return [fact.condition for fact in found.facts if fact.is_chosen]


# --- what is shared, and what is chosen -----------------------------------------------------------


def test_alike__every_fact_selects_the_image_itself_and_is_counted(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "roots", lambda: ["nas"])
    session = TrainingSession.objects.create(name=" Sea ")
    asset = make(
        original="nas/scan.tif",
        format="TIFF",
        mode="I;16",
        orientation=8,
        camera="A & B, C",
        software="Ünï 1",
        color_profile="Adobe RGB (1998)",
        bit_depth=16,
        has_alpha=True,
        frames=3,
        compression="lzw",
        note="truncated",
    )
    asset.set_sessions([session])
    make()
    found = find_alike(asset)
    assert set(numbers_of(found)) == {
        *("orientation", "format", "mode", "profile", "bit-depth", "alpha", "compression"),
        *("frames", "note", "megapixels", "camera", "software", "session-id", "root", "recipe"),
    }
    for fact in found.facts:
        alone = choose_alike(asset, {fact.condition: fact.text})
        assert asset in alone.selection.assets(), fact
        assert alone.total == fact.number == alone.selection.assets().count(), fact
    assert found.total == 1


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"orientation": 6, "color_profile": "sRGB IEC61966-2.1"}, ["orientation"]),
        ({"mode": "CMYK", "color_profile": "FOGRA39"}, ["mode"]),
        ({"format": "PNG", "has_alpha": True, "mode": "P"}, ["mode"]),
        ({"bit_depth": 16, "frames": 2}, ["bit-depth"]),
        ({"format": "TIFF", "orientation": 6}, ["orientation"]),
        ({"note": "truncated"}, ["note"]),
        ({"thumbnail_error": "unreadable", "orientation": 6}, ["reason"]),
        # An ordinary photo: by what the fewest share, if others do.
        ({"camera": "Rare", "software": "Its own"}, ["camera"]),
        ({}, []),
    ],
)
def test_alike__what_tells_most_is_chosen(
    make: Make, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any], chosen: list[str]
) -> None:
    monkeypatch.setattr(alike, "COUNTED_AT_MOST", 2)
    asset = make(**columns)
    make(camera="Rare")
    for _ in range(3):
        make()
    found = find_alike(asset)
    assert chosen_in(found) == chosen
    assert found.total == (found.selection.assets().count() if chosen else 0)
    assert found.selection.is_everything == (not chosen)


def test_alike__chosen_facts_are_combined_and_others_ignored(make: Make) -> None:
    asset = make(orientation=6, camera="A")
    make(orientation=6, camera="B")
    make(camera="A")
    chosen = {"orientation": "6", "camera": "A", "format": "PNG", "state": "stale", "ids": "x"}
    found = find_alike(asset, chosen)
    assert chosen_in(found) == ["orientation", "camera"]
    assert found.selection == Selection(orientations=(6,), camera="A")
    assert (found.total, numbers_of(found)["orientation"]) == (1, 2)


def test_alike__counts_all_in_one_query_and_no_further_than_its_bound(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr(alike, "COUNTED_AT_MOST", 3)
    assets = [make(orientation=6) for _ in range(5)]
    make(orientation=3)
    with django_assert_num_queries(4):  # sessions, recipe's label, cached sizes; then all numbers
        found = find_alike(assets[0])
    assert (found.total, found.total_text) == (4, "more than 3")
    assert numbers_of(found)["format"] == 4


def test_alike__number_of_a_size_is_the_cached_one_on_a_large_site(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = make(width=9000, height=8000)
    counts.cached_counts()
    make(width=9000, height=8000)
    monkeypatch.setattr(counts, "SMALL", 0)
    assert numbers_of(find_alike(asset))["megapixels"] == 1


def test_alike__of_what_older_versions_recorded(make: Make) -> None:
    """Facts that were not read then are unknown, and values that no condition takes are none."""
    asset = make(facts_version=0, format="", thumbnail_path="")
    assert find_alike(asset).facts == []
    odd = make(format="BYGONE", mode="a b")
    assert not {"format", "mode"} & set(numbers_of(find_alike(odd)))


# --- the page -------------------------------------------------------------------------------------


def page_of(client: Client, asset: ImageAsset, query: str = "", part: str = "") -> str:
    response = client.get(f"{LIST}{asset.pk}/alike/{part}{query}")
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def plans_in(page: str) -> list[str]:
    return re.findall(r'href="([^"]*/plan/[^"]*)"', page)


def test_page__leads_to_the_plan_over_what_is_ticked(staff_client: Client, make: Make) -> None:
    asset = make(orientation=6, thumbnail_recipe="0ld")
    make(orientation=6)
    make(thumbnail_recipe="0ld")
    page = page_of(staff_client, asset)
    assert "Turned by the camera (orientation 6)" in page
    assert plans_in(page) == [f"{LIST}plan/regenerate/?orientation=6"]
    assert "<strong>2</strong> images share all that is ticked" in page
    for part in ("", "chosen/"):
        ticked = page_of(staff_client, asset, "?chosen=1&orientation=6&recipe=0ld", part)
        assert plans_in(ticked) == [f"{LIST}plan/regenerate/?orientation=6&recipe=0ld"]
        assert "<strong>1</strong> image shares" in ticked
    assert "Nothing is ticked" in page_of(staff_client, asset, "?chosen=1")
    assert "Find others like this" in staff_client.get(f"{LIST}{asset.pk}/change/").content.decode()


def test_page__of_a_fresh_thumbnail_plans_to_render_fresh_ones_too(
    staff_client: Client, make: Make
) -> None:
    page = page_of(staff_client, make(orientation=6))
    assert plans_in(page) == [f"{LIST}plan/regenerate/?orientation=6&force=1"]
    assert "manage.py regenerate_thumbnails --orientation 6 --force" in page


def test_page__has_one_of_several_sessions_ticked(staff_client: Client, make: Make) -> None:
    asset = make(orientation=6)
    asset.set_sessions([TrainingSession.objects.create(name=name) for name in ("A", "B")])
    page = page_of(staff_client, asset)
    assert re.findall(r'type="radio" name="session" value="(\w*)"( checked)?', page) == [
        ("B", ""),
        ("A", ""),
        ("", " checked"),
    ]
    page = page_of(staff_client, asset, "?chosen=1&session=A")
    assert re.findall(r'name="session" value="(\w*)" checked', page) == ["A"]


def test_page__offers_no_plan_to_those_who_may_not_regenerate(client: Client, make: Make) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_imageasset"))
    client.force_login(user)
    page = page_of(client, make(orientation=6))
    assert "<strong>1</strong>" in page
    assert plans_in(page) == []


# --- the command ----------------------------------------------------------------------------------


def test_command__ends_with_the_line_that_regenerates_them(
    run_command: RunCommand, make: Make, settings: Settings
) -> None:
    asset = make(orientation=6, camera="It's A", thumbnail_recipe="0ld")
    make(orientation=6)
    report = run_command("thumbnail_like", str(asset.pk)).stdout
    assert re.search(r"\[x\] orientation +2  Turned by the camera", report)
    assert re.search(r"\[ \] camera +1  Taken by It's A", report)
    *_, plan, command = report.splitlines()
    assert plan.endswith("/admin/thumbnails/imageasset/plan/regenerate/?orientation=6")
    assert command == "manage.py regenerate_thumbnails --orientation 6"

    by = run_command("thumbnail_like", str(asset.pk), "--by", "camera,orientation").stdout
    _, name, *options = shlex.split(by.splitlines()[-1])
    planned = run_command(name, *options, "--dry-run").stdout
    assert "Would render the thumbnails of 1 image (" in planned


def test_command__as_json(run_command: RunCommand, make: Make) -> None:
    asset = make(orientation=6)
    found = json.loads(run_command("thumbnail_like", str(asset.pk), "--json").stdout)
    assert (found["id"], found["images"], found["more"]) == (asset.pk, 1, False)
    assert found["facts"][0] == {
        "condition": "orientation",
        "value": "6",
        "words": "Turned by the camera (orientation 6)",
        "chosen": True,
        "images": 1,
        "more": False,
    }
    assert found["command"] == "manage.py regenerate_thumbnails --orientation 6 --force"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["999999"], "There is no image with the id 999999"),
        (["{pk}", "--by", "camera"], "has no 'camera' to share, but orientation, mode"),
    ],
)
def test_command__says_what_is_wrong(
    run_command: RunCommand, make: Make, arguments: list[str], sentence: str
) -> None:
    pk = make().pk
    done = run_command("thumbnail_like", *(each.format(pk=pk) for each in arguments))
    assert done.returncode == 2
    assert sentence in done.stderr

"""The API's answers, key by key: images, their thumbnails, runs, statistics, health, documents."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import connections
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.callers import BASE, Caller, assets_of, faults_of, problem_of
from tests.conftest import MakeAsset
from tests.runs import start_run, work
from tests.servers import QueueServer
from thumbnails import jobs
from thumbnails.exceptions import Busy, NoThumbnail
from thumbnails.models import (
    Chunk,
    ImageAsset,
    Run,
    RunEvent,
    RunRequest,
    State,
    TrainingSession,
    clock,
    recipe_in_force,
    recipes,
)
from thumbnails.upkeep.images import serving

pytestmark = pytest.mark.django_db

IMAGE_KEYS = {
    *("assetId", "original", "title", "sessionId", "sessionIds", "createdAt"),
    *("width", "height", "format", "mode", "orientation", "state"),
    *("camera", "software", "colorProfile", "compression", "bitDepth", "hasAlpha", "frames"),
    "note",
    *("thumbnailUrl", "thumbnailSources", "thumbnailWidth", "thumbnailHeight", "thumbnailBytes"),
    *("thumbnailGeneratedAt", "thumbnailRecipe", "reason", "detail"),
}
RUN_KEYS = {
    *("id", "kind", "state", "total", "done", "rendered", "fresh", "purged", "failed"),
    *("accepted", "failures"),
    *("rate", "secondsLeft", "force", "scope", "scopeText", "recipe", "origin", "startedBy"),
    *("note", "pauseReason", "createdAt", "finishedAt"),
}
REGENERATE, PURGE = "/admin/thumbnails/regenerate", "/admin/thumbnails/purge"
RUNS = "/admin/thumbnails/runs"


@pytest.fixture
def api(staff: User) -> Caller:
    return Caller(staff)


def at(text: Any) -> datetime:
    """A time of the API's, which has to have its zone."""
    assert isinstance(text, str)
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return moment


def is_about(text: Any, moment: datetime | None) -> bool:
    """The same to the millisecond, which is what JSON gets."""
    assert moment is not None
    return abs(at(text) - moment) < timedelta(milliseconds=1)


# --- The thumbnail itself -------------------------------------------------------------------------


def test_thumbnail__has_the_bytes_and_headers_of_the_public_url(
    client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)))
    by_api = client.get(f"{BASE}/images/{asset.pk}/thumbnail")
    public = client.get(asset.thumbnail_url.partition("?")[0])
    assert by_api.status_code == HTTPStatus.OK
    assert by_api.content == public.content
    headers = [dict(response.headers) for response in (by_api, public)]
    for found in headers:
        del found["X-Request-ID"]
    assert headers[0] == headers[1]
    version = {"v": asset.fingerprint}
    assert (
        "immutable" in client.get(f"{BASE}/images/{asset.pk}/thumbnail", version)["Cache-Control"]
    )
    again = client.get(
        f"{BASE}/images/{asset.pk}/thumbnail", headers={"If-None-Match": by_api["ETag"]}
    )
    assert (again.status_code, again.content) == (HTTPStatus.NOT_MODIFIED, b"")
    changed = client.get(f"{BASE}/images/{asset.pk}/thumbnail", headers={"If-Match": '"other"'})
    assert changed.status_code == HTTPStatus.PRECONDITION_FAILED


def test_thumbnail__there_is_none(client: Client, make_asset: MakeAsset) -> None:
    broken = make_asset(pictures.truncated())
    for asset_id in (broken.pk, broken.pk + 1000):
        response = client.get(f"{BASE}/images/{asset_id}/thumbnail")
        problem_of(response, HTTPStatus.NOT_FOUND)
        assert response["Cache-Control"] == "public, max-age=60"


# --- Generate -------------------------------------------------------------------------------------


def test_generate__renders_though_it_is_fresh(
    api: Caller, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)))
    serving.serve(asset)
    file = thumbnail_dir / asset.thumbnail_name
    before = file.stat().st_ino
    response = api.post(f"/images/{asset.pk}/thumbnail/generate")
    assert response.status_code == HTTPStatus.OK
    assert response["Content-Type"].startswith("application/json")
    assert response.json() == {
        "assetId": asset.pk,
        "thumbnailPath": str(file),
        "width": 256,
        "height": 192,
        "status": "generated",
    }
    assert file.stat().st_ino != before


def test_generate__another_request_has_just_rendered_it(
    api: Caller, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = make_asset()
    serving.serve(asset)
    before_that = timezone.now() - timedelta(minutes=1)
    monkeypatch.setattr(clock, "now", lambda: before_that)
    response = api.post(f"/images/{asset.pk}/thumbnail/generate")
    assert (response.status_code, response.json()["status"]) == (HTTPStatus.OK, "generated")


def test_generate__missing_asset_and_missing_original_are_404(
    api: Caller, make_asset: MakeAsset, originals_dir: Path
) -> None:
    gone = make_asset(name="gone.jpg")
    (originals_dir / "gone.jpg").unlink()
    for asset_id, what in ((gone.pk, "gone.jpg"), (gone.pk + 1000, f"id {gone.pk + 1000}")):
        response = api.post(f"/images/{asset_id}/thumbnail/generate")
        assert what in problem_of(response, HTTPStatus.NOT_FOUND)["detail"]


def test_generate__broken_picture_is_500_with_its_reason(
    api: Caller, make_asset: MakeAsset
) -> None:
    asset = make_asset(pictures.truncated(), name="broken.jpg")
    response = api.post(f"/images/{asset.pk}/thumbnail/generate")
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    asset.refresh_from_db()
    assert asset.thumbnail_error_detail
    assert response.json() == {
        "assetId": asset.pk,
        "status": "failed",
        "reason": "unreadable",
        "detail": asset.thumbnail_error_detail,
    }


def test_generate__cache_that_cannot_be_written_is_500(
    api: Caller, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    thumbnail_dir.write_text("a file where the folder should be")
    response = api.post(f"/images/{asset.pk}/thumbnail/generate")
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert response.json()["reason"] == "storage_error"


def test_generate__another_at_it_without_end_is_503(
    api: Caller, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: int) -> None:
        raise Busy("Another process is rendering this thumbnail.")

    monkeypatch.setattr(serving, "render_now", busy)
    response = api.post(f"/images/{make_asset().pk}/thumbnail/generate")
    problem_of(response, HTTPStatus.SERVICE_UNAVAILABLE)
    assert int(response["Retry-After"]) > 0


# --- Images ---------------------------------------------------------------------------------------


def test_image__all_that_is_known(api: Caller, make_asset: MakeAsset) -> None:
    asset = make_asset(
        pictures.jpeg(pictures.scene(640, 320), orientation=6), name="a/red-boat.jpg", session="Sea"
    )
    serving.serve(asset)
    asset.refresh_from_db()
    known = api.get(f"/images/{asset.pk}").json()
    assert set(known) == IMAGE_KEYS
    assert is_about(known.pop("createdAt"), asset.created_at)
    assert is_about(known.pop("thumbnailGeneratedAt"), asset.thumbnail_generated_at)
    assert known == {
        "assetId": asset.pk,
        "original": "a/red-boat.jpg",
        "title": "red boat",
        "sessionId": asset.session_ids[0],
        "sessionIds": asset.session_ids,
        "width": 320,
        "height": 640,
        "format": "JPEG",
        "mode": "RGB",
        "orientation": 6,
        "camera": "Camera",
        "software": "",
        "colorProfile": "",
        "compression": "baseline",
        "bitDepth": 8,
        "hasAlpha": False,
        "frames": 1,
        "note": "",
        "state": "fresh",
        "thumbnailUrl": asset.thumbnail_url,
        "thumbnailSources": asset.thumbnail_sources(),
        "thumbnailWidth": 256,
        "thumbnailHeight": 128,
        "thumbnailBytes": asset.thumbnail_bytes,
        "thumbnailRecipe": recipe_in_force().digest,
        "reason": "",
        "detail": "",
    }


def test_image__without_a_thumbnail(api: Caller, make_asset: MakeAsset, settings: Settings) -> None:
    settings.THUMBNAIL_VARIANTS = ".webp=256"
    missing, broken = make_asset(), make_asset(pictures.truncated())
    with pytest.raises(NoThumbnail):
        serving.serve(broken)
    known = api.get(f"/images/{missing.pk}").json()
    assert (known["state"], known["sessionId"]) == ("missing", None)
    assert known["thumbnailSources"] == missing.thumbnail_sources()
    assert [source["type"] for source in known["thumbnailSources"]["sources"]] == ["image/webp"]
    for key in ("thumbnailWidth", "thumbnailHeight", "thumbnailBytes", "thumbnailGeneratedAt"):
        assert known[key] is None
    known = api.get(f"/images/{broken.pk}").json()
    assert (known["state"], known["reason"]) == ("failed", "unreadable")
    broken.refresh_from_db()
    assert known["detail"] == broken.thumbnail_error_detail != ""
    problem = problem_of(api.get(f"/images/{broken.pk + 1000}"), HTTPStatus.NOT_FOUND)
    assert str(broken.pk + 1000) in problem["detail"]


def walk(api: Caller, path: str, **query: Any) -> list[dict[str, Any]]:
    """All that the pages hold, from the first to the last."""
    found: list[dict[str, Any]] = []
    what = path.rpartition("/")[2]
    while True:
        page = api.get(path, **query).json()
        assert set(page) == {what, "nextCursor"}
        assert len(page[what]) <= query["limit"]
        found += page[what]
        if page["nextCursor"] is None:
            return found
        assert page[what], "an empty page leads to no other"
        assert page["nextCursor"] != query.get("cursor"), "the walk comes to no end"
        query["cursor"] = page["nextCursor"]


def test_images__pages_hold_each_once_the_newest_first(api: Caller, make_asset: MakeAsset) -> None:
    ids = [make_asset().pk for _ in range(6)]
    for limit in (1, 2, 6, 7, 500):
        found = walk(api, "/images", limit=limit)
        assert [each["assetId"] for each in found] == sorted(ids, reverse=True), limit
        assert all(set(each) == IMAGE_KEYS for each in found)


def test_images__paging_skips_nothing_when_one_comes_and_one_goes(
    api: Caller, make_asset: MakeAsset
) -> None:
    assets = [make_asset() for _ in range(4)]
    first = api.get("/images", limit=2).json()
    assets[2].delete()
    make_asset()
    second = api.get("/images", limit=2, cursor=first["nextCursor"]).json()
    assert [each["assetId"] for each in second["images"]] == [assets[1].pk, assets[0].pk]


@pytest.fixture
def world(make_asset: MakeAsset) -> dict[str, ImageAsset]:
    """One asset in each state, of different sessions, days and orientations."""
    upright, turned = pictures.jpeg(), pictures.jpeg(orientation=6)
    assets = {
        "missing": make_asset(upright, session="Sea"),
        "fresh": make_asset(turned, session="Sea"),
        "stale": make_asset(turned),
        "failed": make_asset(pictures.truncated(), session="Land"),
    }
    for name in ("fresh", "stale"):
        serving.serve(assets[name])
    with pytest.raises(NoThumbnail):
        serving.serve(assets["failed"])
    ImageAsset.objects.filter(pk=assets["stale"].pk).update(thumbnail_recipe="old")
    days = {
        "missing": datetime(2024, 1, 1, tzinfo=UTC),
        "fresh": datetime(2024, 6, 15, 12, tzinfo=UTC),
        "stale": datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC),
        "failed": datetime(2025, 1, 1, tzinfo=UTC),
    }
    for name, day in days.items():
        ImageAsset.objects.filter(pk=assets[name].pk).update(created_at=day)
        assets[name].memberships.update(created_at=day)
        assets[name].refresh_from_db()
    return assets


def named(world: dict[str, ImageAsset], words: str) -> set[int]:
    return {world[name].pk for name in words.split()}


def filled(body: dict[str, Any], world: dict[str, ImageAsset]) -> dict[str, Any]:
    """The body with ids in the place of the names that stand for them."""
    body = dict(body)
    if "assetIds" in body:
        body["assetIds"] = [world[name].pk for name in body["assetIds"]]
    if "sessionId" in body:
        body["sessionId"] = world[body["sessionId"]].session_ids[0]
    if "shard" in body:
        body["shard"] = world[body["shard"]].thumbnail_name[:2]
    return body


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "missing fresh stale failed"),
        ({"state": "fresh"}, "fresh"),
        ({"state": ["stale", "failed"]}, "stale failed"),
        ({"sessionId": "fresh"}, "missing fresh"),
        ({"fromDate": "2024-12-31"}, "stale failed"),
        ({"toDate": "2024-12-31"}, "missing fresh stale"),
        ({"fromDate": "2024-06-15", "toDate": "2024-06-15"}, "fresh"),
        ({"sessionId": "fresh", "state": "missing", "toDate": "2024-06-01"}, "missing"),
        ({"sessionId": "failed", "state": "fresh"}, ""),
    ],
)
def test_images__filters(
    api: Caller, world: dict[str, ImageAsset], query: dict[str, Any], expected: str
) -> None:
    for limit in (1, 100):  # paging keeps to the filter
        found = walk(api, "/images", limit=limit, **filled(query, world))
        assert {each["assetId"] for each in found} == named(world, expected)


def test_images__of_one_of_two_sessions_of_a_name(
    api: Caller, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    shared, own = make_asset(session="Sea"), make_asset(session="Sea")
    first = own.sessions.get()
    other = TrainingSession.objects.create(name="Sea")
    shared.set_sessions([other, first])
    found = api.get(f"/images?sessionId={first.pk}").json()["images"]
    assert [each["assetId"] for each in found] == [own.pk, shared.pk]
    assert found[1]["sessionId"] == first.pk
    assert found[1]["sessionIds"] == [first.pk, other.pk]
    [only] = api.get(f"/images?sessionId={other.pk}").json()["images"]
    assert only["assetId"] == shared.pk
    run = started(api.post(f"/training/sessions/{other.pk}/thumbnails"))
    assert (run["total"], run["scope"]) == (1, {"session_id": other.pk})
    assert run["scopeText"] == f"session with the id {other.pk}"


def test_images__queries_do_not_grow_with_the_page(
    api: Caller, make_asset: MakeAsset, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        make_asset(session="S")
    api.get("/images")  # notes the token's use
    with django_assert_max_num_queries(5):
        assert len(api.get("/images").json()["images"]) == 20


# --- Starting runs --------------------------------------------------------------------------------


def started(response: Any) -> dict[str, Any]:
    """The run that was started and says so in full."""
    assert response.status_code == HTTPStatus.ACCEPTED, response.content
    run: dict[str, Any] = response.json()
    assert set(run) == RUN_KEYS
    assert response["Location"] == f"{BASE}{RUNS}/{run['id']}"
    return run


@pytest.mark.django_db(transaction=True)
def test_regenerate__answers_with_the_run_and_hands_it_to_the_workers(
    api: Caller, staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    asset = make_asset()
    response = api.post(REGENERATE, {"assetIds": [asset.pk]})
    run = started(response)
    assert api.get(response["Location"].removeprefix(BASE)).json() == run
    assert is_about(run.pop("createdAt"), Run.objects.get().created_at)
    assert run == {
        "id": Run.objects.get().pk,
        "kind": "regenerate",
        "state": "running",
        "total": 1,
        "done": 0,
        "rendered": 0,
        "fresh": 0,
        "purged": 0,
        "failed": 0,
        "accepted": 0,
        "failures": {},
        "rate": None,
        "secondsLeft": None,
        "force": False,
        "scope": {"ids": [asset.pk]},
        "scopeText": f"ids {asset.pk}",
        "recipe": recipe_in_force().digest,
        "origin": "api",
        "startedBy": staff.get_username(),
        "note": "",
        "pauseReason": "",
        "finishedAt": None,
    }
    with queue_server.client as client:
        assert client.llen("rq:queue:thumbnails-now") == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, "missing stale failed"),
        ({}, "missing stale failed"),
        ({"force": True}, "missing fresh stale failed"),
        ({"assetIds": ["missing", "fresh"]}, "missing"),
        ({"fromDate": "2024-12-31"}, "stale failed"),
        ({"toDate": "2024-12-31"}, "missing stale"),
        ({"fromDate": "2024-01-01", "toDate": "2024-01-01"}, "missing"),
        ({"sessionId": "missing"}, "missing"),
        ({"states": ["stale", "failed"]}, "stale failed"),
        ({"orientations": [6]}, "stale"),
        ({"orientations": [3, 8], "force": True}, ""),
        ({"states": ["stale", "missing"], "orientations": [6]}, "stale"),
        ({"camera": "Camera"}, "stale"),
        ({"camera": "none"}, "missing failed"),
        ({"colorProfile": "Display P3"}, ""),
        ({"software": "none", "hasAlpha": False, "maxFrames": 1}, "missing stale failed"),
        ({"compressions": ["baseline", "none"], "bitDepths": [8]}, "missing stale failed"),
        ({"minFrames": 2}, ""),
        ({"notes": ["truncated"]}, ""),
        (
            {
                "force": True,
                "assetIds": ["missing", "fresh", "stale"],
                "fromDate": "2024-01-01",
                "toDate": "2024-12-31",
                "sessionId": "fresh",
                "states": ["missing", "fresh"],
                "orientations": [1, 6],
                "dryRun": False,
            },
            "missing fresh",
        ),
    ],
)
def test_regenerate__conditions_are_combined_with_and(
    api: Caller, world: dict[str, ImageAsset], body: dict[str, Any] | None, expected: str
) -> None:
    run = started(
        api.post(REGENERATE) if body is None else api.post(REGENERATE, filled(body, world))
    )
    assert assets_of(run["id"]) == named(world, expected)
    assert run["total"] == len(named(world, expected))
    assert run["state"] == ("running" if expected else "done")
    assert run["force"] is bool(body and body.get("force"))


def test_regenerate__works_on_what_it_says(api: Caller, world: dict[str, ImageAsset]) -> None:
    run = started(api.post(REGENERATE, {"force": True}))
    work(Run.objects.get(pk=run["id"]))
    run = api.get(f"{RUNS}/{run['id']}").json()
    assert (run["state"], run["rendered"], run["failed"]) == ("done", 3, 1)
    assert ImageAsset.objects.fresh().count() == 3


@pytest.mark.parametrize(
    ("body", "states"),
    [
        ({}, {"missing": 1, "fresh": 0, "stale": 1, "failed": 1, "accepted": 0}),
        ({"force": True}, {"missing": 1, "fresh": 1, "stale": 1, "failed": 1, "accepted": 0}),
        ({"states": ["stale"]}, {"missing": 0, "fresh": 0, "stale": 1, "failed": 0, "accepted": 0}),
    ],
)
def test_regenerate__dry_run_tells_and_starts_nothing(
    api: Caller, world: dict[str, ImageAsset], body: dict[str, Any], states: dict[str, int]
) -> None:
    response = api.post(REGENERATE, {**body, "dryRun": True}, key="dry")
    assert response.status_code == HTTPStatus.OK
    plan = response.json()
    assert plan.pop("bytes") > 0
    assert plan == {
        "dryRun": True,
        "total": sum(states.values()),
        "states": states,
        "seconds": None,
        "secondsAtLeast": None,
        "secondsAtMost": None,
    }
    assert not Run.objects.exists()
    assert not RunRequest.objects.exists()


def test_regenerate__no_room_is_409_and_starts_nothing(
    api: Caller, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_asset()
    monkeypatch.setattr("thumbnails.upkeep.runs.planning.free_bytes", lambda: 1000)
    problem = problem_of(api.post(REGENERATE), HTTPStatus.CONFLICT)
    assert "are needed" in problem["detail"]
    assert not Run.objects.exists()


def test_session__skips_what_is_fresh_and_force_does_not(
    api: Caller, world: dict[str, ImageAsset]
) -> None:
    path = f"/training/sessions/{world['fresh'].session_ids[0]}/thumbnails"
    for body in (None, {}, {"force": False}):
        run = started(api.post(path) if body is None else api.post(path, body))
        assert assets_of(run["id"]) == named(world, "missing")
        api.post(f"{RUNS}/{run['id']}/cancel")
    run = started(api.post(path, {"force": True}))
    assert assets_of(run["id"]) == named(world, "missing fresh")
    assert (run["scope"], run["scopeText"]) == ({"session": "Sea"}, "session Sea")
    problem = problem_of(api.post("/training/sessions/99999/thumbnails"), HTTPStatus.NOT_FOUND)
    assert "99999" in problem["detail"]


def test_start__of_the_same_is_refused_and_names_the_run(
    api: Caller, superuser: User, make_asset: MakeAsset
) -> None:
    make_asset()
    run = started(api.post(REGENERATE))
    response = Caller(superuser).post(REGENERATE, key="abc")
    problem = problem_of(response, HTTPStatus.CONFLICT)
    assert "started by staff, does the same and is running" in problem["detail"]
    assert problem["run"]["id"] == run["id"]
    assert response["Location"].endswith(f"/{run['id']}")
    assert Run.objects.count() == 1
    event = RunEvent.objects.get(kind=RunEvent.Kind.ALSO_WANTED)
    assert (event.run_id, event.by) == (run["id"], superuser)
    started(api.post(REGENERATE, {"force": True}))  # that is another one


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"all": True}, "missing fresh stale failed"),
        ({"assetIds": ["fresh", "missing"]}, "fresh missing"),
        ({"sessionId": "missing"}, "missing fresh"),
        ({"shard": "fresh"}, "fresh"),
        ({"olderThanDays": 7}, "stale"),
        ({"olderThanDays": 7, "sessionId": "fresh"}, ""),
        ({"assetIds": ["stale", "fresh"], "olderThanDays": 7}, "stale"),
    ],
)
def test_purge__selections(
    api: Caller,
    world: dict[str, ImageAsset],
    body: dict[str, Any],
    expected: str,
    thumbnail_dir: Path,
) -> None:
    ImageAsset.objects.filter(pk=world["stale"].pk).update(
        thumbnail_generated_at=timezone.now() - timedelta(days=8)
    )
    body = filled(body, world)
    planned = api.post(PURGE, {**body, "dryRun": True})
    assert planned.status_code == HTTPStatus.OK
    assert set(planned.json()) >= {"dryRun", "total", "states", "bytes", "seconds"}
    assert planned.json()["total"] == len(named(world, expected))
    assert not Run.objects.exists()
    run = started(api.post(PURGE, body))
    assert (run["kind"], run["force"]) == ("purge", False)
    # Another asset may lie in the same shard, by the chance of its id.
    same_shard = {a.pk for a in world.values() if a.thumbnail_name[:2] == body.get("shard")}
    here = {pk for pk in same_shard if ImageAsset.objects.exclude(thumbnail_path="").filter(pk=pk)}
    assert assets_of(run["id"]) == named(world, expected) | here
    work(Run.objects.get(pk=run["id"]))
    assert api.get(f"{RUNS}/{run['id']}").json()["purged"] == run["total"]
    left = {int(file.stem) for file in thumbnail_dir.rglob("*.jpg")}
    assert left == named(world, "fresh stale") - assets_of(run["id"])


@pytest.mark.parametrize(
    "body", [{}, {"all": False}, {"dryRun": True}, {"all": True, "shard": "0a"}]
)
def test_purge__everything_must_be_said_with_all_and_alone(
    api: Caller, make_asset: MakeAsset, body: dict[str, Any]
) -> None:
    make_asset()
    assert "all" in faults_of(api.post(PURGE, body))
    assert faults_of(api.post(PURGE))
    assert not Run.objects.exists()


# --- Runs -----------------------------------------------------------------------------------------


@pytest.fixture
def half_done(api: Caller, make_asset: MakeAsset) -> int:
    """A run of five assets: one rendered, one fresh, one broken, two to do."""
    assets = [make_asset(), make_asset(), make_asset(pictures.truncated())]
    assets += [make_asset() for _ in range(2)]
    serving.serve(assets[1])
    ids = [asset.pk for asset in assets]
    run_id = started(api.post(REGENERATE, {"assetIds": ids}))["id"]
    Chunk.objects.all().delete()
    Run.objects.update(total=5)
    done = Chunk.objects.create(run_id=run_id, number=1, asset_ids=ids[:3])
    Chunk.objects.create(run_id=run_id, number=2, asset_ids=ids[3:])
    jobs.work_chunk(done.pk)
    return int(run_id)


def test_run__counts_rate_and_time_left(
    api: Caller, half_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Run.objects.get().created_at
    monkeypatch.setattr(timezone, "now", lambda: begun + timedelta(seconds=40))
    run = api.get(f"{RUNS}/{half_done}").json()
    assert set(run) == RUN_KEYS
    assert (run["total"], run["done"]) == (5, 3)
    assert (run["rendered"], run["fresh"], run["failed"], run["purged"]) == (1, 1, 1, 0)
    assert run["failures"] == {"unreadable": 1}
    assert run["rate"] == pytest.approx(3 / 40, abs=0.001)
    assert run["secondsLeft"] == pytest.approx(2 / 3 * 40, abs=0.1)


def test_run__unknown_is_404(api: Caller) -> None:
    for response in (
        api.get(f"{RUNS}/4711"),
        *(api.post(f"{RUNS}/4711/{verb}") for verb in ("cancel", "resume", "retry")),
    ):
        assert "4711" in problem_of(response, HTTPStatus.NOT_FOUND)["detail"]


def test_runs__pages_hold_each_once_the_newest_first(
    api: Caller, half_done: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(4):
        start_run(leased=True)
    ids = sorted(Run.objects.values_list("pk", flat=True), reverse=True)
    for limit in (1, 2, 5):
        assert [run["id"] for run in walk(api, RUNS, limit=limit)] == ids
    found = walk(api, RUNS, limit=50)
    assert [run["id"] for run in found] == ids
    alone = api.get(f"{RUNS}/{half_done}").json()
    moving = {"rate", "secondsLeft"}
    assert {key: found[-1][key] for key in RUN_KEYS - moving} == {
        key: alone[key] for key in RUN_KEYS - moving
    }
    with django_assert_max_num_queries(6):
        api.get(RUNS)


def test_report__has_what_became_of_each_image(
    api: Caller, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    asset, broken = make_asset(name="one.jpg"), make_asset(pictures.truncated(), name="two.jpg")
    work(run := start_run())
    asset.refresh_from_db()
    path = f"{RUNS}/{run.pk}/report"
    first = api.get(path, limit=1).json()
    assert first == {
        "images": [
            {
                "id": asset.pk,
                "name": "one.jpg",
                "outcome": "rendered",
                "reason": "",
                "oldFingerprint": "",
                "newFingerprint": asset.fingerprint,
                "url": asset.thumbnail_url,
                "state": "fresh",
            }
        ],
        "now": None,
        "nextCursor": first["nextCursor"],
    }
    second = api.get(path, limit=1, cursor=first["nextCursor"], now=True).json()
    assert [image["id"] for image in second["images"]] == [broken.pk]
    assert second["nextCursor"] is None
    assert second["now"] == {
        **dict.fromkeys([*State.values, "replaced", "purged", "deleted"], 0),
        "fresh": 1,
        "failed": 1,
    }
    assert api.get(path, outcome="failed").json()["images"] == second["images"]
    assert api.get(path, reason="crashed").json()["images"] == []


def test_runs__by_state(api: Caller, half_done: int, make_asset: MakeAsset) -> None:
    cancelled = started(api.post(REGENERATE))["id"]
    api.post(f"{RUNS}/{cancelled}/cancel")
    assert [run["id"] for run in api.get(RUNS, state="running").json()["runs"]] == [half_done]
    both = api.get(RUNS, state=["running", "cancelled"]).json()["runs"]
    assert {run["id"] for run in both} == {half_done, cancelled}
    assert api.get(RUNS, state="paused").json() == {"runs": [], "nextCursor": None}


def test_run__cancel_and_resume(api: Caller, half_done: int, queue_server: QueueServer) -> None:
    cancelled = started(api.post(f"{RUNS}/{half_done}/cancel"))
    assert (cancelled["id"], cancelled["state"]) == (half_done, "cancelled")
    assert cancelled["secondsLeft"] is None
    assert is_about(cancelled["finishedAt"], Run.objects.get().finished_at)
    problem = problem_of(api.post(f"{RUNS}/{half_done}/cancel"), HTTPStatus.CONFLICT)
    assert "is cancelled and cannot be cancelled" in problem["detail"]
    resumed = started(api.post(f"{RUNS}/{half_done}/resume"))
    assert (resumed["state"], resumed["done"], resumed["finishedAt"]) == ("running", 3, None)
    # Once more: no process works on it, so the workers are given what they may have lost.
    assert started(api.post(f"{RUNS}/{half_done}/resume"))["state"] == "running"
    work(Run.objects.get(pk=half_done))
    for verb in ("cancel", "resume"):
        problem = problem_of(api.post(f"{RUNS}/{half_done}/{verb}"), HTTPStatus.CONFLICT)
        assert "is done" in problem["detail"]


def test_run__retry_is_over_just_what_failed(
    api: Caller, half_done: int, make_asset: MakeAsset
) -> None:
    [broken] = ImageAsset.objects.failed()
    work(Run.objects.get(pk=half_done))
    for body in ({}, {"reason": "unreadable"}):
        retried = started(api.post(f"{RUNS}/{half_done}/retry", body))
        assert retried["id"] != half_done
        assert assets_of(retried["id"]) == {broken.pk}
        assert retried["scope"] == {"retry_of": half_done, "reason": body.get("reason")}
    assert assets_of(started(api.post(f"{RUNS}/{half_done}/retry"))["id"]) == {broken.pk}
    refused = api.post(f"{RUNS}/{half_done}/retry", {"reason": "too_large"})
    assert "Nothing failed" in problem_of(refused, HTTPStatus.CONFLICT)["detail"]
    purge = started(api.post(PURGE, {"all": True}))["id"]
    problem = problem_of(api.post(f"{RUNS}/{purge}/retry"), HTTPStatus.CONFLICT)
    assert "is a purge" in problem["detail"]


@pytest.mark.django_db(transaction=True)
def test_queue_down__run_is_saved_and_said_so(
    api: Caller, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    queue_server.kill()
    for path, body in ((REGENERATE, {}), (PURGE, {"all": True})):
        response = api.post(path, body)
        problem = problem_of(response, HTTPStatus.SERVICE_UNAVAILABLE)
        assert set(problem) == {"type", "title", "status", "detail", "run"}
        assert set(problem["run"]) == RUN_KEYS
        run = Run.objects.get(pk=problem["run"]["id"])
        assert (run.total, run.state) == (1, Run.State.RUNNING)
        assert f"Run {run.pk} is saved" in problem["detail"]
        assert response["Location"] == f"{BASE}{RUNS}/{run.pk}"
        assert int(response["Retry-After"]) > 0
        assert api.get(f"{RUNS}/{run.pk}").json()["id"] == run.pk


# --- Idempotency-Key ------------------------------------------------------------------------------


def test_key__repeated_request_gets_the_first_ones_run(api: Caller, make_asset: MakeAsset) -> None:
    make_asset()
    first = started(api.post(REGENERATE, {"force": True}, key="abc"))
    again = started(api.post(REGENERATE, {"force": True}, key="abc"))
    assert again["id"] == first["id"]
    assert Run.objects.count() == 1
    work(Run.objects.get(pk=first["id"]))
    assert started(api.post(REGENERATE, {"force": True}, key="abc"))["state"] == "done"
    other = started(api.post(REGENERATE, {"force": True}, key="abd"))
    assert other["id"] != first["id"]


def test_key__no_body_and_an_empty_one_ask_for_the_same(api: Caller, make_asset: MakeAsset) -> None:
    make_asset()
    assert (
        started(api.post(REGENERATE, key="k"))["id"]
        == started(api.post(REGENERATE, {}, key="k"))["id"]
    )


@pytest.mark.django_db(transaction=True)
def test_key__repeated_after_503_gets_the_run_that_was_saved(
    api: Caller, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    queue_server.kill()
    first = problem_of(api.post(REGENERATE, key="abc"), HTTPStatus.SERVICE_UNAVAILABLE)
    assert started(api.post(REGENERATE, key="abc"))["id"] == first["run"]["id"]
    queue_server.start()
    assert started(api.post(REGENERATE, key="abc"))["id"] == first["run"]["id"]
    assert Run.objects.count() == 1


def test_key__of_another_user_is_another_request(
    api: Caller, superuser: User, make_asset: MakeAsset
) -> None:
    make_asset()
    mine = started(api.post(REGENERATE, key="abc"))
    theirs = started(Caller(superuser).post(REGENERATE, {"force": True}, key="abc"))
    assert mine["id"] != theirs["id"]
    assert theirs["startedBy"] == superuser.get_username()


def test_key__for_something_else_is_refused(api: Caller, world: dict[str, ImageAsset]) -> None:
    run = started(api.post(REGENERATE, {"force": True}, key="abc"))
    for path, body in (
        (REGENERATE, {}),
        (REGENERATE, {"force": True, "states": ["stale"]}),
        (PURGE, {"all": True}),
        (f"/training/sessions/{world['fresh'].session_ids[0]}/thumbnails", {"force": True}),
        (f"{RUNS}/{run['id']}/retry", {}),
    ):
        assert "another request" in faults_of(api.post(path, body, key="abc"))["Idempotency-Key"]
    assert Run.objects.count() == 1


def test_key__refused_request_leaves_it_as_good_as_new(api: Caller, make_asset: MakeAsset) -> None:
    asset = make_asset()
    assert "assetIds" in faults_of(api.post(REGENERATE, {"assetIds": [asset.pk + 1]}, key="abc"))
    started(api.post(REGENERATE, {"assetIds": [asset.pk]}, key="abc"))


def test_key__acts_on_a_run_may_be_repeated_too(api: Caller, half_done: int) -> None:
    for _ in range(2):
        assert started(api.post(f"{RUNS}/{half_done}/cancel", key="stop"))["state"] == "cancelled"
    for _ in range(2):
        assert started(api.post(f"{RUNS}/{half_done}/resume", key="go"))["state"] == "running"
    retried = {started(api.post(f"{RUNS}/{half_done}/retry", key="again"))["id"] for _ in range(2)}
    assert len(retried) == 1


def test_key__is_forgotten_after_a_while(api: Caller, make_asset: MakeAsset) -> None:
    make_asset()
    first = started(api.post(REGENERATE, key="abc"))
    api.post(f"{RUNS}/{first['id']}/cancel")
    RunRequest.objects.update(created_at=timezone.now() - RunRequest.KEPT - timedelta(seconds=1))
    assert started(api.post(REGENERATE, key="abc"))["id"] != first["id"]
    assert RunRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_key__of_many_at_once_starts_one_run(
    staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    callers = [Caller(staff) for _ in range(4)]
    for round_ in range(3):
        all_here = threading.Barrier(len(callers))

        def post(api: Caller, key: str = f"key-{round_}", here: Any = all_here) -> int:
            here.wait(30)
            try:
                return int(started(api.post(REGENERATE, key=key))["id"])
            finally:
                connections.close_all()

        with ThreadPoolExecutor(len(callers)) as pool:
            assert len(set(pool.map(post, callers))) == 1
        assert Run.objects.count() == round_ + 1
        Run.objects.update(state=Run.State.CANCELLED)
    assert Chunk.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_start__of_the_same_by_many_at_once_starts_one_run(
    staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    recipes.announce()
    callers = [Caller(staff) for _ in range(4)]
    all_here = threading.Barrier(len(callers))

    def post(api: Caller) -> int:
        all_here.wait(30)
        try:
            return int(api.post(REGENERATE).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(callers)) as pool:
        answers = sorted(pool.map(post, callers))
    assert answers == [HTTPStatus.ACCEPTED, *[HTTPStatus.CONFLICT] * 3]
    assert Run.objects.count() == 1


# --- Statistics and health ------------------------------------------------------------------------


def test_statistics__count_states_files_and_recipes(
    api: Caller, world: dict[str, ImageAsset], thumbnail_dir: Path
) -> None:
    sizes = {
        str(file.relative_to(thumbnail_dir)): file.stat().st_size
        for file in thumbnail_dir.rglob("*.jpg")
    }
    shards: dict[str, dict[str, int]] = {}
    for name, size in sizes.items():
        use = shards.setdefault(name[:2], {"files": 0, "bytes": 0})
        use["files"] += 1
        use["bytes"] += size
    found = api.get("/admin/thumbnails/statistics").json()
    every = found.pop("shards")
    assert sorted(every) == [f"{number:02x}" for number in range(256)]
    assert {shard: use for shard, use in every.items() if use["files"]} == shards
    assert found == {
        "assets": {"missing": 1, "fresh": 1, "stale": 1, "failed": 1, "accepted": 0},
        "failures": {"unreadable": 1},
        "cache": {"files": 2, "bytes": sum(sizes.values())},
        "variants": {},
        "recipe": recipe_in_force().digest,
        "otherRecipes": {"old": 1},
    }


def test_healthz__answers_whatever_is_down(client: Client) -> None:
    response = client.get(f"{BASE}/healthz")
    assert (response.status_code, response.json()) == (HTTPStatus.OK, {"status": "ok"})


def test_readyz__all_answer(client: Client, queue_server: QueueServer) -> None:
    response = client.get(f"{BASE}/readyz")
    assert response.status_code == HTTPStatus.OK
    assert response.json() == {
        "status": "ready",
        "checks": {"database": True, "queue": True, "cache": True},
    }


def test_readyz__tells_strangers_which_part_is_away_and_nothing_else(
    client: Client, queue_server: QueueServer, thumbnail_dir: Path
) -> None:
    queue_server.kill()
    thumbnail_dir.write_text("a file where the folder should be")
    response = client.get(f"{BASE}/readyz")
    assert int(response["Retry-After"]) > 0
    problem = problem_of(response, HTTPStatus.SERVICE_UNAVAILABLE)
    assert problem == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "No answer from: queue and cache.",
        "checks": {"database": True, "queue": False, "cache": False},
    }


# --- Any address ----------------------------------------------------------------------------------


def test_head__has_the_headers_of_get_and_no_body(api: Caller, half_done: int) -> None:
    work(Run.objects.get(pk=half_done))  # or its rate changes from one to the next
    asset = ImageAsset.objects.fresh().first()
    assert asset is not None
    for path in (
        *(f"/images/{asset.pk}/thumbnail", f"/images/{asset.pk}", "/images", f"{RUNS}/{half_done}"),
        *(RUNS, "/admin/thumbnails/statistics", "/healthz", "/openapi.json"),
    ):
        head = api.client.head(BASE + path)
        get = api.get(path)
        assert head.status_code == get.status_code == HTTPStatus.OK, path
        assert head.content == b""
        assert head["Content-Type"] == get["Content-Type"]
        assert head["Content-Length"] == str(len(get.content))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/images", {"GET", "HEAD"}),
        ("PUT", "/images/1/thumbnail", {"GET", "HEAD"}),
        ("GET", "/images/1/thumbnail/generate", {"POST"}),
        ("HEAD", "/images/1/thumbnail/generate", {"POST"}),
        ("OPTIONS", PURGE, {"POST"}),
        ("POST", "/openapi.json", {"GET", "HEAD"}),
        ("POST", "/docs", {"GET", "HEAD"}),
    ],
)
def test_wrong_method__is_a_problem_that_names_the_right_ones(
    method: str, path: str, allowed: set[str]
) -> None:
    client = Client(enforce_csrf_checks=True)
    response: Any = client.generic(method, BASE + path)
    assert set(response["Allow"].split(", ")) == allowed
    if method == "HEAD":
        assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        return
    assert method in problem_of(response, HTTPStatus.METHOD_NOT_ALLOWED)["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("GET", path)
            for path in ("/", "/nothing", "/images/1/", "/images/1/x/y", "/%00", "/%ff")
        ),
        *((method, "/nothing") for method in ("POST", "DELETE", "OPTIONS")),
    ],
)
def test_unknown_path__is_a_problem(method: str, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    problem_of(client.generic(method, BASE + path), HTTPStatus.NOT_FOUND)


# --- Documents ------------------------------------------------------------------------------------


def test_openapi__is_valid_and_has_every_call(client: Client) -> None:
    document = client.get(f"{BASE}/openapi.json").json()
    schemathesis.openapi.from_dict(document).validate()
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    calls = {
        f"{method.upper()} {path.removeprefix(BASE)}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert calls == {
        "GET /images/{id}/thumbnail",
        "POST /images/{id}/thumbnail/generate",
        "GET /images/{id}",
        "GET /images",
        "POST /training/sessions/{id}/thumbnails",
        "POST /admin/thumbnails/regenerate",
        "POST /admin/thumbnails/purge",
        "GET /admin/thumbnails/runs",
        "GET /admin/thumbnails/runs/{id}",
        "GET /admin/thumbnails/runs/{id}/report",
        "POST /admin/thumbnails/runs/{id}/cancel",
        "POST /admin/thumbnails/runs/{id}/resume",
        "POST /admin/thumbnails/runs/{id}/retry",
        "GET /admin/thumbnails/statistics",
        "GET /healthz",
        "GET /readyz",
    }


def test_docs__page_answers_and_loads_its_parts_from_the_site(client: Client) -> None:
    response = client.get(f"{BASE}/docs")
    assert response.status_code == HTTPStatus.OK
    page = response.content.decode()
    assert f"{BASE}/openapi.json" in page
    assert "://" not in page
    for part in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/static/ninja/{part}" in page
        assert finders.find(f"ninja/{part}")

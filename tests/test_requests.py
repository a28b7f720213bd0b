"""The public URL of a thumbnail: hits, misses, conditions, and originals that fail."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from html import unescape
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.storage import FileSystemStorage
from django.db import OperationalError, connection, connections
from django.test import Client
from PIL import Image
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.waiting import PATIENCE_SECONDS, wait_for
from thumbnails import views
from thumbnails.models import ImageAsset, Outcome, State, recipes
from thumbnails.models.results import save_results
from thumbnails.rendering import Facts, Recipe, Rendering, read_stamp
from thumbnails.rendering.pool import RenderPool
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.upkeep.images import freshness, pools, serving
from thumbnails.upkeep.images.acceptance import accept_failures
from thumbnails.upkeep.selection import pages

pytestmark = pytest.mark.django_db

YEAR = "max-age=31536000"


def path_of(asset: ImageAsset) -> str:
    return asset.thumbnail_url.partition("?")[0]


def touch(path: Path) -> None:
    """A change of the file that the quick check notices."""
    seen = path.stat()
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1_000_000_000))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one with each original that is rendered."""
    calls: list[object] = []
    render = RenderPool.render

    def counting(*args: Any, **kwargs: Any) -> tuple[Rendering, Facts | None]:
        calls.append(args)
        return render(*args, **kwargs)

    monkeypatch.setattr(RenderPool, "render", counting)
    return calls


def assert_unavailable(response: Any) -> None:
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert int(response["Retry-After"]) > 0
    assert "ETag" not in response


# --- Hits and misses ------------------------------------------------------------------------------


def test_thumbnail__missing_is_rendered_and_recorded(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480), orientation=6))
    response = client.get(asset.thumbnail_url)
    assert response.status_code == HTTPStatus.OK
    assert response["Content-Type"] == "image/jpeg"
    image = pictures.opened(response.content)
    assert image.size == (256, 192)
    file = thumbnail_dir / asset.thumbnail_name
    assert file.read_bytes() == response.content
    asset.refresh_from_db()
    assert asset.state == State.FRESH
    assert asset.thumbnail_path == asset.thumbnail_name
    assert (asset.thumbnail_width, asset.thumbnail_height) == image.size
    assert asset.thumbnail_bytes == len(response.content)
    assert read_stamp(response.content) == asset.fingerprint


def test_thumbnail__api_url_serves_the_same(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    by_api = client.get(f"/api/v1/images/{asset.pk}/thumbnail")
    assert by_api.status_code == HTTPStatus.OK
    assert by_api.content == client.get(asset.thumbnail_url).content


def test_thumbnail__hit_by_its_stamp_costs_no_query(
    client: Client, make_asset: MakeAsset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    asset = make_asset()
    rendered = client.get(asset.thumbnail_url)
    with django_assert_num_queries(0):
        hit = client.get(asset.thumbnail_url)
        etag = client.get(asset.thumbnail_url, headers={"If-None-Match": rendered["ETag"]})
    assert hit.content == rendered.content
    assert etag.status_code == HTTPStatus.NOT_MODIFIED


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "?v=0123456789abcdef",
            "?v=x",
            "?v=%00",
            "?v=%ff%fe",
            "?v=../../x",
            "?v=" + "f" * 9000,
        ),
        *("?V={0}", "?v={0}&v=0123456789abcdef", "?v={0}0", "?v={0}%00", "?v[]={0}", "?v={0};v"),
    ],
)
def test_thumbnail__hit_by_another_address_costs_one_query(
    client: Client,
    make_asset: MakeAsset,
    django_assert_num_queries: DjangoAssertNumQueries,
    query: str,
) -> None:
    asset = make_asset()
    rendered = client.get(asset.thumbnail_url)
    with django_assert_num_queries(1):
        answer = client.get(path_of(asset) + query.format(asset.fingerprint))
    assert (answer.status_code, answer.content) == (HTTPStatus.OK, rendered.content)
    assert answer["Cache-Control"] == "public, no-cache"


def test_thumbnail__hit_needs_no_database_and_a_miss_says_that_it_does(
    client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset()
    content = client.get(asset.thumbnail_url).content

    def away(*_: object) -> NoReturn:
        raise OperationalError("the connection is lost")

    with connection.execute_wrapper(away):
        hit = client.get(asset.thumbnail_url)
        other = client.get(path_of(asset))
        by_api = client.get(f"/api/v1/images/{asset.pk}/thumbnail")
    assert hit.content == content
    for response in (other, by_api):
        assert_unavailable(response)
        assert b"database" in response.content


@pytest.mark.parametrize("what", ["cache", "shard", "file"])
def test_thumbnail__comes_back_after_rm(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path, what: str
) -> None:
    asset = make_asset()
    before = client.get(asset.thumbnail_url).content
    file = thumbnail_dir / asset.thumbnail_name
    match what:
        case "cache":
            shutil.rmtree(thumbnail_dir)
        case "shard":
            shutil.rmtree(file.parent)
        case _:
            file.unlink()
    assert client.get(asset.thumbnail_url).content == before
    assert file.exists()


@pytest.mark.parametrize("kept_bytes", [0, 100])
def test_thumbnail__cut_file_is_noticed(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path, kept_bytes: int
) -> None:
    asset = make_asset()
    whole = client.get(asset.thumbnail_url).content
    os.truncate(thumbnail_dir / asset.thumbnail_name, kept_bytes)
    assert client.get(asset.thumbnail_url).content == whole


def test_thumbnail__unknown_to_the_database_but_stamped_is_taken_over(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    """As after a crash between the file and the row."""
    asset = make_asset()
    client.get(asset.thumbnail_url)
    file = thumbnail_dir / asset.thumbnail_name
    written = file.stat().st_mtime_ns
    ImageAsset.objects.update(thumbnail_path="", thumbnail_recipe="", thumbnail_source="")
    assert client.get(path_of(asset)).status_code == HTTPStatus.OK
    assert file.stat().st_mtime_ns == written
    asset.refresh_from_db()
    assert asset.state == State.FRESH
    assert asset.thumbnail_bytes == file.stat().st_size


# --- What browsers are told -----------------------------------------------------------------------


def test_headers__versioned_url_is_immutable(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    for _ in range(2):  # rendered now, and from the cache
        response = client.get(asset.thumbnail_url)
        assert "immutable" in response["Cache-Control"]
        assert YEAR in response["Cache-Control"]
        assert response["ETag"] == f'"{asset.fingerprint}"'
        assert response["Last-Modified"]
        assert response["Content-Length"] == str(len(response.content))


def test_headers__only_what_bears_the_asked_stamp_is_immutable(
    client: Client, make_asset: MakeAsset
) -> None:
    """The row may name another stamp than the file has, for a moment or after a crash."""
    asset, other = make_asset(), make_asset(pictures.jpeg(pictures.scene(50, 200)))
    client.get(asset.thumbnail_url)
    content = client.get(other.thumbnail_url).content
    cache.write(asset.thumbnail_name, content)
    ImageAsset.objects.filter(pk=asset.pk).update(thumbnail_bytes=len(content))
    by_its_stamp = client.get(f"{path_of(asset)}?v={other.fingerprint}")
    assert by_its_stamp["ETag"] == f'"{other.fingerprint}"'
    by_the_row = client.get(asset.thumbnail_url)
    stamp = read_stamp(by_the_row.content)
    assert stamp == asset.fingerprint
    assert by_the_row["ETag"] == f'"{stamp}"'
    assert "immutable" in by_the_row["Cache-Control"]


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789abcdef"])
def test_headers__other_urls_are_asked_about_each_time(
    client: Client, make_asset: MakeAsset, query: str
) -> None:
    response = client.get(path_of(make_asset()) + query)
    assert "no-cache" in response["Cache-Control"]
    assert "immutable" not in response["Cache-Control"]


@pytest.mark.parametrize("value", ["{0}", "W/{0}", '"another", {0}', 'W/"another",W/{0}', "*"])
def test_conditional_get__matching_etag_is_304_without_a_body(
    client: Client, make_asset: MakeAsset, value: str
) -> None:
    asset = make_asset()
    etag = client.get(asset.thumbnail_url)["ETag"]
    response = client.get(asset.thumbnail_url, headers={"If-None-Match": value.format(etag)})
    assert response.status_code == HTTPStatus.NOT_MODIFIED
    assert response.content == b""
    assert response["ETag"] == etag
    assert "immutable" in response["Cache-Control"]


@pytest.mark.parametrize(
    "headers",
    [
        *({"If-None-Match": value} for value in ("x", '"another"', '"', 'W/"', ",", "\xff", "")),
        *({"Range": value} for value in ("bytes=0-9", "bytes=999999-", "bytes=9-0", "x")),
        *({"If-Modified-Since": value} for value in ("x", "Thu, 99 Foo 2099 99:99:99 GMT")),
    ],
)
def test_headers__that_do_not_apply_get_the_whole_picture(
    client: Client, make_asset: MakeAsset, headers: dict[str, str]
) -> None:
    asset = make_asset()
    whole = client.get(asset.thumbnail_url).content
    response = client.get(asset.thumbnail_url, headers=headers)
    assert (response.status_code, response.content) == (HTTPStatus.OK, whole)


def test_conditional_get__is_answered_by_what_lies_there_now(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset, other = make_asset(), make_asset(pictures.jpeg(pictures.scene(50, 200)))
    etag = client.get(asset.thumbnail_url)["ETag"]
    client.get(other.thumbnail_url)
    file = thumbnail_dir / asset.thumbnail_name
    before = file.read_bytes()

    def status() -> int:
        return client.get(asset.thumbnail_url, headers={"If-None-Match": etag}).status_code

    assert [status(), status()] == [HTTPStatus.NOT_MODIFIED] * 2
    file.write_bytes((thumbnail_dir / other.thumbnail_name).read_bytes())
    assert status() == HTTPStatus.NOT_MODIFIED  # rendered again
    assert file.read_bytes() == before
    asset.delete()
    assert status() == HTTPStatus.NOT_FOUND


def test_conditional_get__if_modified_since(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    modified = client.get(asset.thumbnail_url)["Last-Modified"]
    response = client.get(asset.thumbnail_url, headers={"If-Modified-Since": modified})
    assert response.status_code == HTTPStatus.NOT_MODIFIED


def test_head__has_the_headers_and_no_body(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    assert client.head(asset.thumbnail_url).content == b""  # and now it is in the cache
    head, get = client.head(asset.thumbnail_url), client.get(asset.thumbnail_url)
    assert head.status_code == HTTPStatus.OK
    assert head.content == b""
    for name in ("Content-Length", "ETag", "Last-Modified", "Cache-Control", "Content-Type"):
        assert head[name] == get[name]


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_thumbnail__is_only_read(client: Client, make_asset: MakeAsset, method: str) -> None:
    response = getattr(client, method)(make_asset().thumbnail_url)
    assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED


# --- What is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/thumbnails/82/12345.jpg", 1),
        ("/thumbnails/c2/999999999999999999.jpg", 1),
        ("/api/v1/images/12345/thumbnail", 1),
        *(
            (f"/thumbnails/{name}", 0)
            for name in (
                *(
                    "00/12345.jpg",
                    "00/0.jpg",
                    "82/-1.jpg",
                    "82/12345.png",
                    "82/12345.jpg/",
                    "82/.jpg",
                ),
                *("82/9223372036854775808.jpg", "82/999999999999999999999.jpg", "82/1e3.jpg"),
                *("82/../82/12345.jpg", "%2e%2e/82/12345.jpg", "/82/12345.jpg", "82//12345.jpg"),
                *("82/12345.jpg%00", "82/%0012345.jpg", "82%5c12345.jpg", "..%5c82%5c12345.jpg"),
                *("82/12345%0a.jpg", "82/12345.jpg%0a", "82/%d9%a1%d9%a2.jpg", "82/%ff.jpg"),
                *(".locks/renders", "82/.12345.jpg.0123456789abcdef.tmp"),
                "82/" + "1" * 5000 + ".jpg",
            )
        ),
    ],
)
def test_not_found__no_such_asset(
    client: Client,
    thumbnail_dir: Path,
    django_assert_num_queries: DjangoAssertNumQueries,
    path: str,
    queries: int,
) -> None:
    """An unknown id costs one query, by its key; what names none costs nothing. No file is left."""
    with django_assert_num_queries(queries) as captured:
        assert client.get(path).status_code == HTTPStatus.NOT_FOUND
    assert all('."id" = ' in query["sql"] for query in captured)
    assert not thumbnail_dir.exists()


def test_not_found__wrong_shard_and_other_spellings(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    shard = path_of(asset).split("/")[2]
    wrong = f"{(int(shard, 16) + 1) % 256:02x}"
    for path in (
        f"/thumbnails/{wrong}/{asset.pk}.jpg",
        f"/thumbnails/{shard.upper()}x/{asset.pk}.jpg",
        f"/thumbnails/{shard}/0{asset.pk}.jpg",
    ):
        assert client.get(path).status_code == HTTPStatus.NOT_FOUND


def test_not_found__original_is_gone_and_comes_back(
    client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="a.jpg")
    (originals_dir / "a.jpg").rename(originals_dir / "away.jpg")
    response = client.get(asset.thumbnail_url)
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response["Cache-Control"] == "public, max-age=60"
    asset.refresh_from_db()
    assert asset.state == State.FAILED
    assert asset.thumbnail_error == "source_missing"
    assert "a.jpg" in asset.thumbnail_error_detail
    (originals_dir / "away.jpg").rename(originals_dir / "a.jpg")
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


def test_broken_original__is_decoded_again_only_when_it_changes(
    client: Client, make_asset: MakeAsset, originals_dir: Path, decoded: list[object]
) -> None:
    asset = make_asset(pictures.truncated(), name="a.jpg")
    for _ in range(3):
        response = client.get(asset.thumbnail_url)
        assert response.status_code == HTTPStatus.NOT_FOUND
        assert response["Cache-Control"] == "public, max-age=60"
    assert len(decoded) == 1
    asset.refresh_from_db()
    assert (asset.state, asset.thumbnail_error) == (State.FAILED, "unreadable")

    touch(originals_dir / "a.jpg")
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.NOT_FOUND
    assert len(decoded) == 2
    (originals_dir / "a.jpg").write_bytes(pictures.jpeg())
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


def test_refresh__records_a_fresh_file_whatever_pillows_limit_is(
    client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = make_asset()
    client.get(asset.thumbnail_url)
    size = ImageAsset.objects.values_list("thumbnail_width", "thumbnail_height").get()
    ImageAsset.objects.update(thumbnail_recipe="", thumbnail_width=None, thumbnail_height=None)
    asset.refresh_from_db()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    result = freshness.refresh(asset, pools.worker_pool(large=False))
    assert result.outcome == Outcome.FRESH
    assert save_results([result]) == []
    assert ImageAsset.objects.values_list("thumbnail_width", "thumbnail_height").get() == size
    assert ImageAsset.objects.get().state == State.FRESH


@pytest.mark.parametrize("why", ["truncated", "gone"])
def test_failed__keeps_the_old_picture_and_says_that_it_may_change(
    client: Client, make_asset: MakeAsset, originals_dir: Path, decoded: list[object], why: str
) -> None:
    asset = make_asset(name="a.jpg")
    old = client.get(asset.thumbnail_url)
    ImageAsset.objects.update(thumbnail_recipe="0123456789abcdef")
    if why == "gone":
        (originals_dir / "a.jpg").unlink()
    else:
        (originals_dir / "a.jpg").write_bytes(pictures.truncated())
        touch(originals_dir / "a.jpg")
    asset.refresh_from_db()
    result = freshness.refresh(asset, pools.worker_pool(large=False))
    assert save_results([result]) == []
    asset.refresh_from_db()
    assert asset.state == State.FAILED
    assert asset.thumbnail_path == asset.thumbnail_name
    assert (asset.thumbnail_recipe, asset.thumbnail_bytes) == (
        "0123456789abcdef",
        len(old.content),
    )
    decoded.clear()
    for _ in range(2):
        for url in (path_of(asset), f"/api/v1/images/{asset.pk}/thumbnail"):
            response = client.get(url)
            assert response.status_code == HTTPStatus.OK
            assert response.content == old.content
            assert response["ETag"] == old["ETag"]
            assert "no-cache" in response["Cache-Control"]
    assert decoded == []


def test_failed__that_goes_well_again_has_no_failure(
    client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(pictures.truncated(), name="a.jpg")
    client.get(asset.thumbnail_url)
    asset.refresh_from_db()
    assert (asset.thumbnail_error_recipe, asset.thumbnail_error_source) == (
        recipes.own_recipe().digest,
        asset.source_version,
    )
    (originals_dir / "a.jpg").write_bytes(pictures.jpeg())
    touch(originals_dir / "a.jpg")
    assert client.get(path_of(asset)).status_code == HTTPStatus.OK
    asset.refresh_from_db()
    assert asset.state == State.FRESH
    assert asset.thumbnail_error == asset.thumbnail_error_detail == ""
    assert asset.thumbnail_error_recipe == asset.thumbnail_error_source == ""


def test_failed__whose_file_is_gone_has_none(
    client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="a.jpg")
    client.get(asset.thumbnail_url)
    (originals_dir / "a.jpg").write_bytes(pictures.truncated())
    touch(originals_dir / "a.jpg")
    cache.delete(asset.thumbnail_name)
    assert client.get(path_of(asset)).status_code == HTTPStatus.NOT_FOUND
    asset.refresh_from_db()
    assert (asset.state, asset.thumbnail_path) == (State.FAILED, "")


def test_unstamped__is_served_where_nothing_better_can_be_had(
    client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    """A whole picture that no version of the site has made: nothing names its bytes."""
    asset = make_asset(name="a.jpg")
    client.get(asset.thumbnail_url)
    (originals_dir / "a.jpg").unlink()
    foreign = pictures.jpeg(pictures.scene(20, 20))
    cache.write(asset.thumbnail_name, foreign)
    response = client.get(path_of(asset))
    assert response.content == foreign
    assert response["Cache-Control"] == "no-store"


# --- Storages that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/thumbnails/{shard}/{id}.jpg", "/api/v1/images/{id}/thumbnail"])
def test_originals_that_cannot_be_read__are_no_reason_to_say_that_there_is_none(
    client: Client, make_asset: MakeAsset, originals_dir: Path, url: str
) -> None:
    asset = make_asset(name="a.jpg")
    (originals_dir / "a.jpg").unlink()
    (originals_dir / "a.jpg").mkdir()
    response = client.get(url.format(shard=path_of(asset).split("/")[2], id=asset.pk))
    assert_unavailable(response)
    asset.refresh_from_db()
    assert asset.thumbnail_error == "storage_error"
    (originals_dir / "a.jpg").rmdir()
    (originals_dir / "a.jpg").write_bytes(pictures.jpeg())
    assert client.get(path_of(asset)).status_code == HTTPStatus.OK


def test_originals_that_cannot_be_read__leave_the_old_picture(
    client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="a.jpg")
    old = client.get(asset.thumbnail_url)
    ImageAsset.objects.update(thumbnail_recipe="0123456789abcdef")
    (originals_dir / "a.jpg").unlink()
    (originals_dir / "a.jpg").mkdir()
    response = client.get(path_of(asset))
    assert response.content == old.content
    assert "no-cache" in response["Cache-Control"]


def test_full_cache__the_picture_is_served_all_the_same(
    client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    asset = make_asset()
    with monkeypatch.context() as patched:
        patched.setattr(FileSystemStorage, "save", full)
        response = client.get(asset.thumbnail_url)
    assert response.status_code == HTTPStatus.OK
    assert pictures.opened(response.content).size == (64, 48)
    assert response["Cache-Control"] == "no-store"
    asset.refresh_from_db()
    assert asset.thumbnail_error == "storage_error"
    assert "No space left" in asset.thumbnail_error_detail


def test_unwritable_cache__the_picture_is_served_all_the_same(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    thumbnail_dir.write_text("a file where the folder should be")
    asset = make_asset()
    response = client.get(asset.thumbnail_url)
    assert response.status_code == HTTPStatus.OK
    assert pictures.opened(response.content).size == (64, 48)
    assert response["Cache-Control"] == "no-store"
    asset.refresh_from_db()
    assert asset.thumbnail_error == "storage_error"
    thumbnail_dir.unlink()
    response = client.get(asset.thumbnail_url)
    assert "immutable" in response["Cache-Control"]
    asset.refresh_from_db()
    assert asset.state == State.FRESH


# --- Many at once ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_cold_thumbnail__many_threads_render_it_once(
    make_asset: MakeAsset,
    decoded: list[object],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.THUMBNAIL_WEB_WAITING = 7
    monkeypatch.setattr(serving, "WAIT_SECONDS", PATIENCE_SECONDS)
    asset = make_asset()
    all_here = threading.Barrier(8)

    def fetch(_: int) -> int:
        all_here.wait(30)
        try:
            return Client().get(asset.thumbnail_url).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(fetch, range(8))) == {HTTPStatus.OK}
    assert len(decoded) == 1


class Gate:
    """A render pool that renders nothing until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()
        render = RenderPool.render

        def waiting(*args: Any, **kwargs: Any) -> tuple[Rendering, Facts | None]:
            self.entered.set()
            assert self._open.wait(PATIENCE_SECONDS)
            return render(*args, **kwargs)

        monkeypatch.setattr(RenderPool, "render", waiting)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def get(url: str) -> Any:
    """In a thread of its own."""
    try:
        return Client().get(url)
    finally:
        connections.close_all()


@pytest.fixture
def requests() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.django_db(transaction=True)
def test_many_missing__all_but_a_few_are_told_to_come_back(
    make_asset: MakeAsset,
    requests: ThreadPoolExecutor,
    gate: Gate,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "WAIT_SECONDS", PATIENCE_SECONDS)
    settings.THUMBNAIL_WEB_RENDERS = 1
    settings.THUMBNAIL_WEB_WAITING = 2
    asked = [requests.submit(get, make_asset().thumbnail_url) for _ in range(6)]

    def answered() -> list[Future[Any]]:
        return [future for future in asked if future.done()]

    # One renders and two wait for it; the rest are refused at once.
    wait_for(lambda: len(answered()) == 3, "those that are turned away")
    assert gate.entered.is_set()
    turned_away = answered()
    for future in turned_away:
        assert_unavailable(future.result())
        assert future.result()["Cache-Control"] == "no-store"
    gate.open()
    for future in set(asked) - set(turned_away):
        assert future.result().status_code == HTTPStatus.OK


@pytest.mark.django_db(transaction=True)
def test_render__holds_up_no_hit_and_no_stale_one(
    client: Client,
    make_asset: MakeAsset,
    requests: ThreadPoolExecutor,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.THUMBNAIL_WEB_WAITING = 0
    hit, stale, missing = make_asset(), make_asset(), make_asset()
    contents = {asset.pk: client.get(asset.thumbnail_url).content for asset in (hit, stale)}
    ImageAsset.objects.filter(pk=stale.pk).update(thumbnail_recipe="0123456789abcdef")
    gate = Gate(monkeypatch)
    rendering = requests.submit(get, missing.thumbnail_url)
    assert gate.entered.wait(PATIENCE_SECONDS)
    assert client.get(hit.thumbnail_url).content == contents[hit.pk]
    old = client.get(path_of(stale))
    assert old.content == contents[stale.pk]
    assert "no-cache" in old["Cache-Control"]
    gate.open()
    assert rendering.result().status_code == HTTPStatus.OK


@pytest.mark.django_db(transaction=True)
def test_render__that_takes_long_is_done_to_its_end(
    client: Client,
    make_asset: MakeAsset,
    gate: Gate,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.THUMBNAIL_WEB_WAITING = 0
    monkeypatch.setattr(serving, "PATIENCE_SECONDS", 0.05)
    asset = make_asset()
    assert_unavailable(client.get(asset.thumbnail_url))
    assert_unavailable(client.get(make_asset().thumbnail_url))  # its place is not free yet
    gate.open()

    def is_fresh() -> bool:
        return ImageAsset.objects.fresh().filter(pk=asset.pk).exists()

    wait_for(is_fresh, "the result to be saved")
    wait_for(
        lambda: client.get(make_asset().thumbnail_url).status_code == HTTPStatus.OK,
        "the place to be free",
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("looks_again_after", "status"),
    [(60.0, HTTPStatus.OK), (0.0, HTTPStatus.SERVICE_UNAVAILABLE)],
)
def test_render__of_an_original_that_changes_meanwhile_leaves_no_file(
    make_asset: MakeAsset,
    gate: Gate,
    requests: ThreadPoolExecutor,
    thumbnail_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks_again_after: float,
    status: HTTPStatus,
) -> None:
    """A web server in front would send it under the address of the new one."""
    monkeypatch.setattr(freshness, "LOOK_AGAIN_SECONDS", looks_again_after)
    asset = make_asset()
    rendering = requests.submit(get, asset.thumbnail_url)
    assert gate.entered.wait(PATIENCE_SECONDS)
    ImageAsset.objects.update(source_version="1-2-3")
    gate.open()
    answer = rendering.result()
    assert (answer.status_code, answer["Cache-Control"]) == (status, "no-store")
    assert not (thumbnail_dir / asset.thumbnail_name).exists()


def test_render__by_another_process_is_told(
    client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "WAIT_SECONDS", 0)
    asset = make_asset()
    with render_lock(asset.pk, patience_seconds=0) as is_mine:
        assert is_mine
        assert_unavailable(client.get(asset.thumbnail_url))
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


def test_other_version_in_force__this_one_renders_nothing(
    client: Client, make_asset: MakeAsset, decoded: list[object]
) -> None:
    """It is being replaced: what it made would be stale at once."""
    asset, missing = make_asset(), make_asset()
    old = client.get(asset.thumbnail_url)
    recipes.announce()
    newer = Recipe(size_px=99)
    later = recipes.KnownRecipe.objects.get().started_at.replace(year=2999)
    recipes.KnownRecipe.of(newer, started_at=later).save(force_insert=True)
    recipes.look()
    decoded.clear()
    asset.refresh_from_db()
    assert asset.state == State.STALE
    response = client.get(path_of(asset))
    assert response.content == old.content
    assert "no-cache" in response["Cache-Control"]
    assert_unavailable(client.get(path_of(missing)))
    assert decoded == []


# --- The gallery ----------------------------------------------------------------------------------


def test_gallery__shows_each_with_its_size_and_text(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(
        pictures.jpeg(pictures.scene(640, 320), orientation=6), name="a_red-boat.jpg"
    )
    page = client.get("/").content.decode()
    assert asset.thumbnail_url in page
    assert 'alt="a red boat"' in page
    assert 'loading="lazy"' in page
    assert 'width="256" height="128"' in page


def test_gallery__queries_do_not_grow_with_its_images(
    client: Client, make_asset: MakeAsset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_asset()
    with django_assert_num_queries(3):
        client.get("/")
    for _ in range(20):
        make_asset()
    with django_assert_num_queries(3):
        client.get("/")


def shown(page: str) -> list[str]:
    return re.findall(r'<span class="title">(.*)</span>', page)


def test_gallery__goes_on_from_page_to_page(
    client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PER_PAGE", 2)
    for number in range(5):
        make_asset(name=f"{number}.jpg")
    query, seen = "", []
    while True:
        page = client.get(f"/{query}").content.decode()
        seen.append(shown(page))
        if (further := re.search('rel="next" href="([^"]*)"', page)) is None:
            break
        query = unescape(further[1])
    assert seen == [["4", "3"], ["2", "1"], ["0"]]
    assert '<a href="?">Newest</a>' in page


def test_gallery__finds_by_name_and_session(client: Client, make_asset: MakeAsset) -> None:
    for name, session in (("sea/red-boat.jpg", "Sea"), ("boat.jpg", ""), ("fish.jpg", "Sea")):
        make_asset(name=name, session=session)

    def found(query: str) -> list[str]:
        return shown(client.get(f"/?{query}").content.decode())

    assert found("name=BOAT") == ["boat", "red boat"]
    assert found("name=boat&session=Sea") == ["red boat"]
    assert found("session=Sea") == ["fish", "red boat"]
    assert "There is no session named" in client.get("/?session=None").content.decode()
    assert "No images were found" in client.get("/?name=x").content.decode()


def test_gallery__looks_for_a_name_through_so_many_images_at_once(
    client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LOOKED_THROUGH", 3)
    for name in ("old", *"abcd"):
        make_asset(name=f"{name}.jpg", session="Sea")
    for query in ("name=old", "name=old&session=Sea"):
        page = client.get(f"/?{query}").content.decode()
        assert "None of these 3 images has that name." in page
        further = re.search('rel="next" href="([^"]*)">Look among older', page)
        assert further is not None
        page = client.get(f"/{unescape(further[1])}").content.decode()
        assert shown(page) == ["old"]
        assert 'rel="next"' not in page


def test_gallery__suggests_sessions_to_those_who_may_view_them(
    client: Client, make_asset: MakeAsset
) -> None:
    make_asset(session="Sea")
    user = User.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert "Sea" not in client.get("/").content.decode()
    user.user_permissions.set(Permission.objects.filter(codename="view_trainingsession"))
    assert '<option value="Sea">' in client.get("/").content.decode()


def test_image__tells_the_public_what_it_may_know(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(
        pictures.jpeg(pictures.scene(640, 320), orientation=6),
        name="secret-folder/a_red-boat.jpg",
        session="Secret session",
    )
    address = f"/images/{asset.pk}/"
    assert f'href="{address}"' in client.get("/").content.decode()
    page = client.get(address).content.decode()
    assert "<h1>a red boat</h1>" in page
    assert "640 × 320 pixels" in page
    assert "JPEG" in page
    assert asset.thumbnail_url in page
    assert "secret" not in page.lower()
    assert "/admin/" not in page
    assert client.get("/images/999/").status_code == HTTPStatus.NOT_FOUND
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_imageasset"))
    client.force_login(user)
    assert f"/admin/thumbnails/imageasset/{asset.pk}/" in client.get(address).content.decode()


def test_gallery__failed_ones_have_no_picture(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(pictures.truncated())
    client.get(asset.thumbnail_url)
    asset.refresh_from_db()
    assert asset.thumbnail_error_detail
    for _ in range(2):  # before and after the failure is accepted
        for address in ("/", f"/images/{asset.pk}/"):
            page = client.get(address).content.decode()
            assert "No preview" in page
            assert "<img" not in page
            assert asset.thumbnail_error_detail not in page
        accept_failures(ImageAsset.objects.all())


@pytest.mark.parametrize("before", ["0", "x", "-3", "9" * 40 + "-1", "%00", "1-1"])
def test_gallery__any_position_shows_a_page(client: Client, before: str) -> None:
    assert client.get(f"/?before={before}").status_code == HTTPStatus.OK


def test_gallery__empty_site_says_so(client: Client) -> None:
    assert "There are no images yet" in client.get("/").content.decode()


def test_gallery__names_are_escaped(client: Client, make_asset: MakeAsset) -> None:
    make_asset(name="<script>alert(1)<b>.jpg")
    assert "<script>alert" not in client.get("/").content.decode()

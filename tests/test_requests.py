"""The public URL of a thumbnail: hits, misses, conditions, and originals that fail."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset, State
from thumbnails.rendering import Rendering, read_stamp, render
from thumbnails.upkeep import freshness

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

    def counting(*args: Any, **kwargs: Any) -> Rendering:
        calls.append(args)
        return render(*args, **kwargs)

    monkeypatch.setattr("thumbnails.upkeep.freshness.render", counting)
    return calls


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
    with file.open("rb") as opened:
        assert read_stamp(opened) == asset.fingerprint


def test_thumbnail__api_url_serves_the_same(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    by_api = client.get(f"/api/v1/images/{asset.pk}/thumbnail")
    assert by_api.status_code == HTTPStatus.OK
    assert by_api.content == client.get(asset.thumbnail_url).content


def test_thumbnail__hit_costs_one_query(
    client: Client, make_asset: MakeAsset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    asset = make_asset()
    client.get(asset.thumbnail_url)
    with django_assert_num_queries(1):
        client.get(asset.thumbnail_url)


def test_thumbnail__stale_by_recipe_is_rendered_anew(
    client: Client, make_asset: MakeAsset, settings: Settings
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)))
    before = client.get(asset.thumbnail_url)
    settings.THUMBNAIL_SIZE = 100
    assert ImageAsset.objects.stale().get() == asset
    after = client.get(path_of(asset))
    assert max(pictures.opened(after.content).size) == 100
    assert after["ETag"] != before["ETag"]
    asset.refresh_from_db()
    assert asset.state == State.FRESH


def test_thumbnail__stale_by_original_is_rendered_anew(
    client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="a.jpg")
    before = client.get(asset.thumbnail_url)
    make_asset(pictures.jpeg(pictures.scene(50, 200)), name="a.jpg")
    after = client.get(path_of(asset))
    assert pictures.opened(after.content).size == (50, 200)
    assert after["ETag"] != before["ETag"]


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


def test_thumbnail__unknown_to_the_ledger_but_stamped_is_taken_over(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    """As after a crash between the file and the row."""
    asset = make_asset()
    client.get(asset.thumbnail_url)
    file = thumbnail_dir / asset.thumbnail_name
    written = file.stat().st_mtime_ns
    ImageAsset.objects.update(thumbnail_path="", thumbnail_recipe="", thumbnail_source="")
    assert client.get(asset.thumbnail_url).status_code == HTTPStatus.OK
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


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789abcdef"])
def test_headers__other_urls_are_asked_about_each_time(
    client: Client, make_asset: MakeAsset, query: str
) -> None:
    response = client.get(path_of(make_asset()) + query)
    assert "no-cache" in response["Cache-Control"]
    assert "immutable" not in response["Cache-Control"]


def test_conditional_get__matching_etag_is_304_without_a_body(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    etag = client.get(asset.thumbnail_url)["ETag"]
    response = client.get(asset.thumbnail_url, headers={"If-None-Match": etag})
    assert response.status_code == HTTPStatus.NOT_MODIFIED
    assert response.content == b""
    assert response["ETag"] == etag
    assert "immutable" in response["Cache-Control"]


def test_conditional_get__stale_etag_gets_the_new_picture(
    client: Client, make_asset: MakeAsset, settings: Settings
) -> None:
    asset = make_asset()
    etag = client.get(asset.thumbnail_url)["ETag"]
    settings.THUMBNAIL_QUALITY = 40
    response = client.get(path_of(asset), headers={"If-None-Match": etag})
    assert response.status_code == HTTPStatus.OK
    assert response["ETag"] != etag


def test_conditional_get__if_modified_since(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    modified = client.get(asset.thumbnail_url)["Last-Modified"]
    response = client.get(asset.thumbnail_url, headers={"If-Modified-Since": modified})
    assert response.status_code == HTTPStatus.NOT_MODIFIED


def test_head__has_the_headers_and_no_body(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
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
    "path",
    [
        "/thumbnails/82/12345.jpg",
        "/thumbnails/00/0.jpg",
        "/thumbnails/82/999999999999999999999.jpg",
        "/thumbnails/82/12345.png",
        "/thumbnails/82/-1.jpg",
        "/thumbnails/82/../82/12345.jpg",
        "/api/v1/images/12345/thumbnail",
    ],
)
def test_not_found__no_such_asset(client: Client, path: str) -> None:
    assert client.get(path).status_code == HTTPStatus.NOT_FOUND


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


def test_broken_new_original__takes_the_old_picture_away(
    client: Client, make_asset: MakeAsset, originals_dir: Path, thumbnail_dir: Path
) -> None:
    """A web server in front would go on showing it."""
    asset = make_asset(name="a.jpg")
    client.get(asset.thumbnail_url)
    (originals_dir / "a.jpg").write_bytes(pictures.truncated())
    touch(originals_dir / "a.jpg")
    freshness.refresh(asset)
    assert not (thumbnail_dir / asset.thumbnail_name).exists()


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
    make_asset: MakeAsset, decoded: list[object]
) -> None:
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
    with django_assert_num_queries(2):
        client.get("/")
    for _ in range(20):
        make_asset()
    with django_assert_num_queries(2):
        client.get("/")


def test_gallery__failed_ones_have_no_picture(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(pictures.truncated())
    client.get(asset.thumbnail_url)
    page = client.get("/").content.decode()
    assert "No preview" in page
    assert "<img" not in page
    asset.refresh_from_db()
    assert asset.thumbnail_error_detail
    assert asset.thumbnail_error_detail not in page


@pytest.mark.parametrize("page", ["0", "x", "-3", "99999", "%00"])
def test_gallery__any_page_number_shows_a_page(client: Client, page: str) -> None:
    assert client.get(f"/?page={page}").status_code == HTTPStatus.OK


def test_gallery__empty_site_says_so(client: Client) -> None:
    assert "There are no images yet" in client.get("/").content.decode()


def test_gallery__names_are_escaped(client: Client, make_asset: MakeAsset) -> None:
    make_asset(name="<script>alert(1)<b>.jpg")
    assert "<script>alert" not in client.get("/").content.decode()

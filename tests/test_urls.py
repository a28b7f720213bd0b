"""Which pages a project has that includes the public thumbnails alone."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import include, path
from pytest_django import Settings

from tests.conftest import MakeAsset

admin.autodiscover()
urlpatterns = [
    path("shop/media/", include("thumbnails.urls")),
    path("shop/admin/", admin.site.urls),
]


@pytest.fixture
def shop(settings: Settings) -> str:
    """Where the shop has its thumbnails."""
    settings.ROOT_URLCONF = __name__
    return "/shop/media/"


def test_thumbnails__are_served_below_any_path(
    shop: str, client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset()
    assert asset.thumbnail_url.startswith(f"{shop}thumbnails/{asset.thumbnail_name}?v=")
    answer = client.get(asset.thumbnail_url)
    assert (answer.status_code, answer["Content-Type"]) == (HTTPStatus.OK, "image/jpeg")


@pytest.mark.parametrize("address", ["", "thumbnails/", "api/v1/healthz"])
def test_thumbnails__publish_neither_gallery_nor_api(
    shop: str, client: Client, address: str
) -> None:
    assert client.get(shop + address).status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "address",
    ["", "thumbnails/imageasset/", "thumbnails/imageasset/{id}/change/", "thumbnails/cache/"],
)
def test_admin__needs_neither_gallery_nor_api(
    shop: str, admin_client: Client, make_asset: MakeAsset, address: str
) -> None:
    asset = make_asset()
    answer = admin_client.get("/shop/admin/" + address.format(id=asset.pk))
    assert answer.status_code == HTTPStatus.OK

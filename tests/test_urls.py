"""Which pages a project has that includes the public thumbnails alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.test import Client
from django.test.utils import override_script_prefix
from django.urls import URLPattern, URLResolver, include, path, set_urlconf
from django.utils import translation
from pytest_django import Settings

from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset

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


@contextmanager
def urlconf(patterns: tuple[URLPattern | URLResolver, ...]) -> Iterator[None]:
    """Of the thread, as the handler sets it for a request with one."""
    set_urlconf(patterns)  # type: ignore[arg-type]  # a name, or what can be hashed
    try:
        yield
    finally:
        set_urlconf(None)


def test_thumbnail_url__is_that_of_the_request(shop: str) -> None:
    """By its script name, language and URLconf, of which the next request has others."""
    asset = ImageAsset(pk=12345, original="a.jpg")
    name = f"thumbnails/82/12345.jpg?v={asset.fingerprint}"
    for _ in range(2):
        assert asset.thumbnail_url == f"{shop}{name}"
        with override_script_prefix("/behind/"):
            assert asset.thumbnail_url == f"/behind{shop}{name}"
        with urlconf(tuple(i18n_patterns(*urlpatterns))):
            for language in ("de", "fr"):
                with translation.override(language):
                    assert asset.thumbnail_url == f"/{language}{shop}{name}"


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

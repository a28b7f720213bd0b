"""The security headers that the site's responses carry."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from django.db import OperationalError
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from tests.conftest import MakeAsset
from thumbnails.models import ImageAsset
from thumbnails.upkeep.images import serving

POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def headers_of(response: HttpResponseBase) -> dict[str, str | None]:
    return {name: response.headers.get(name) for name in HEADERS}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", HTTPStatus.OK),
        ("/admin/login/", HTTPStatus.OK),
        ("/admin/", HTTPStatus.FOUND),
        ("/api/v1/healthz", HTTPStatus.OK),
        ("/static/thumbnails/run.js", HTTPStatus.OK),
        ("/static/there-is-none.js", HTTPStatus.NOT_FOUND),
        ("/there-is-no-such-page", HTTPStatus.NOT_FOUND),
        ("/thumbnails/82/12345.jpg", HTTPStatus.NOT_FOUND),
    ],
)
def test_headers__on_every_response(client: Client, path: str, status: HTTPStatus) -> None:
    response = client.get(path)
    response.close()  # the file, of a static one
    assert response.status_code == status
    assert headers_of(response) == HEADERS


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), HTTPStatus.INTERNAL_SERVER_ERROR),
        (OperationalError("x"), HTTPStatus.SERVICE_UNAVAILABLE),
    ],
)
def test_headers__on_error_pages(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: HTTPStatus
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("thumbnails.views.pages.search", failing)
    response = client.get("/")
    assert response.status_code == status
    assert headers_of(response) == HEADERS


def test_headers__where_the_host_is_unknown(client: Client) -> None:
    response = client.get("/", headers={"host": "elsewhere.example.org"})
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert headers_of(response) == HEADERS


def test_thumbnail__may_be_embedded_by_other_sites(client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    serving.serve(asset)
    response = client.get(ImageAsset.objects.get(pk=asset.pk).thumbnail_url)
    assert response.status_code == HTTPStatus.OK
    assert headers_of(response) == HEADERS
    assert "Cross-Origin-Resource-Policy" not in response.headers


@pytest.mark.parametrize("placeholders", [True, False])
def test_policy__lets_placeholders_be_seen_where_there_are_any(
    client: Client, settings: Settings, placeholders: bool
) -> None:
    settings.THUMBNAIL_PLACEHOLDERS = placeholders
    policy = client.get("/api/v1/healthz").headers["Content-Security-Policy"]
    assert ("style-src-attr 'unsafe-inline'" in policy) == placeholders


@pytest.mark.django_db
def test_debug_pages__have_no_policy(client: Client, settings: Settings) -> None:
    """Django's pages of a traceback bring their styles and scripts within the page."""
    settings.DEBUG = True
    assert "Content-Security-Policy" not in client.get("/there-is-no-such-page").headers
    assert client.get(reverse("admin:login")).headers["Content-Security-Policy"] == POLICY

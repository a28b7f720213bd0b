"""What the site answers where a request failed."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from django.db import DataError, InterfaceError, OperationalError, ProgrammingError
from django.test import Client

GALLERY, THUMBNAIL = "/", "/thumbnails/82/12345.jpg"
SOURCES = {
    GALLERY: "thumbnails.views.pages.search",
    THUMBNAIL: "thumbnails.views.thumbnail_response",
}
MIDDLEWARE = "django.contrib.auth.middleware.AuthenticationMiddleware.process_request"


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def fail(monkeypatch: pytest.MonkeyPatch, place: str, error: Exception) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(place, failing)


@pytest.mark.parametrize("error", [OperationalError("secret"), InterfaceError("secret")])
@pytest.mark.parametrize("in_middleware", [False, True])
@pytest.mark.parametrize(
    ("path", "media_type"), [(GALLERY, "text/html"), (THUMBNAIL, "text/plain")]
)
def test_database_away__is_503(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    media_type: str,
    in_middleware: bool,
    error: Exception,
) -> None:
    fail(monkeypatch, MIDDLEWARE if in_middleware else SOURCES[path], error)
    response = client.get(path)
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert response["Retry-After"] == "30"
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"] == f"{media_type}; charset=utf-8"
    assert "database does not answer" in response.content.decode()
    assert "secret" not in response.content.decode()


def test_database_away__head_has_no_body(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, SOURCES[GALLERY], OperationalError("secret"))
    response = client.head(GALLERY)
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.content == b""
    assert int(response["Content-Length"]) > 0


@pytest.mark.parametrize("error", [ProgrammingError("x"), DataError("x"), ValueError("x")])
def test_other_errors__are_500(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for path, place in SOURCES.items():
        fail(monkeypatch, place, error)
        response = client.get(path)
        assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
        assert "Retry-After" not in response

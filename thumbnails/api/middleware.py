"""Checks of every request before its operation runs."""

from collections.abc import Callable, Sequence
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from ninja.parser import Parser
from ninja.types import DictStrAny
from pydantic_core import from_json

from thumbnails.api.errors import invalid, problem
from thumbnails.exceptions import UsageError

BODY_BYTES_AT_MOST = 1024 * 1024
KEYS_AT_MOST = 100
"""Of a body. No operation knows as many, and each unknown one is a fault to be told."""

DOCUMENTS = ("openapi-json", "openapi-view")
"""The names of the URLs that django-ninja answers whatever the method."""

View = Callable[..., HttpResponseBase]


class StrictParser(Parser):
    """Parses JSON objects only: no NaN, no unlimited nesting, no null instead of a body."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        value = from_json(request.body, allow_inf_nan=False)
        if not isinstance(value, dict):
            raise TypeError("not a JSON object")
        if len(value) > KEYS_AT_MOST:
            raise ValueError("too many keys")
        return value


def nothing_in_query(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses a POST with a query string: a filter sent there would be silently ignored."""

    @wraps(operation)
    def checked(request: HttpRequest, *args: Any, **values: Any) -> Any:
        if request.method == "POST" and request.GET:
            where = "Send this in the body, not in the query string."
            return invalid([{"field": key, "detail": where} for key in request.GET])
        return operation(request, *args, **values)

    return checked


def only_in_query(request: HttpRequest, *known: str) -> None:
    """Raises UsageError for an unknown parameter: a mistyped filter would show everything."""
    for name in request.GET:
        if name not in known:
            raise UsageError(f"Unknown parameter; known are {', '.join(known)}.", about=name)


def wrapped(patterns: Sequence[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    """The API's URLs, each view behind the middleware, and a last one for unknown paths."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            view = pattern.callback
            pattern.callback = _wrapped(require_safe(view) if pattern.name in DOCUMENTS else view)
    return [*patterns, re_path("", _wrapped(_nothing_here))]


def _wrapped(view: View) -> View:
    @csrf_exempt  # operations check it themselves; Django would answer with a page
    @wraps(view)
    def middleware(request: HttpRequest, *args: object, **values: object) -> HttpResponseBase:
        if refusal := _refusal(request):
            return refusal
        is_head = request.method == "HEAD"
        if is_head:  # as GET; the server omits the body
            request.method = "GET"
        try:
            response = view(request, *args, **values)
        except Http404:
            response = problem(HTTPStatus.NOT_FOUND, "There is nothing here.")
        finally:
            if is_head:
                request.method = "HEAD"
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            return problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{request.method} is not allowed for this URL.",
                headers={"Allow": _with_head(response["Allow"])},
            )
        return response

    return middleware


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """The response that refuses a body before it is read; None if it is accepted."""
    length = request.headers.get("Content-Length") or "0"
    if "Transfer-Encoding" in request.headers and length == "0":
        # Django would see no body, and a regeneration without one is of all images.
        return problem(HTTPStatus.LENGTH_REQUIRED, "Send the body with a Content-Length.")
    if not length.isdecimal() or int(length) > BODY_BYTES_AT_MOST:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body may have {BODY_BYTES_AT_MOST:,} bytes at most.",
        )
    if request.method == "POST" and length != "0" and request.content_type != "application/json":
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON, as Content-Type: application/json."
        )
    return None


def _with_head(allowed: str) -> str:
    methods = allowed.split(", ")
    return ", ".join([*methods, "HEAD"] if "GET" in methods and "HEAD" not in methods else methods)


def _nothing_here(request: HttpRequest) -> HttpResponseBase:
    raise Http404

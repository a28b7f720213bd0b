"""What holds for every request before an operation sees it."""

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
    """JSON objects and nothing else: no NaN, no nesting without end, no null in place of a body."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        value = from_json(request.body, allow_inf_nan=False)
        if not isinstance(value, dict):
            raise TypeError("no JSON object")
        if len(value) > KEYS_AT_MOST:
            raise ValueError("too many keys")
        return value


def nothing_in_query(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses a POST with a query: a condition in the wrong place would be one that is missing."""

    @wraps(operation)
    def checked(request: HttpRequest, *args: Any, **values: Any) -> Any:
        if request.method == "POST" and request.GET:
            where = "What is asked for stands in the body, not in the address."
            return invalid([{"field": key, "detail": where} for key in request.GET])
        return operation(request, *args, **values)

    return checked


def only_in_query(request: HttpRequest, *known: str) -> None:
    """Raises UsageError for another parameter: a mistyped filter would show everything."""
    for name in request.GET:
        if name not in known:
            raise UsageError(f"There is no such parameter, only {', '.join(known)}.", about=name)


def wrapped(patterns: Sequence[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    """The API's URLs, each view behind the gate, and a last one for all that there is not."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            view = pattern.callback
            pattern.callback = _wrapped(require_safe(view) if pattern.name in DOCUMENTS else view)
    return [*patterns, re_path("", _wrapped(_nothing_here))]


def _wrapped(view: View) -> View:
    @csrf_exempt  # operations look after it themselves; Django would answer with a page
    @wraps(view)
    def gate(request: HttpRequest, *args: object, **values: object) -> HttpResponseBase:
        if refusal := _refusal(request):
            return refusal
        is_head = request.method == "HEAD"
        if is_head:  # as GET; the server leaves the body away
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
                f"{request.method} is not for this address.",
                headers={"Allow": _with_head(response["Allow"])},
            )
        return response

    return gate


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Why a body is not even read; None where nothing speaks against it."""
    length = request.headers.get("Content-Length") or "0"
    if "Transfer-Encoding" in request.headers and length == "0":
        # Django sees no body then, and a regeneration without one is one of everything.
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

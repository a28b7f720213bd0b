"""Errors as problem details (RFC 9457)."""

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic.alias_generators import to_camel

from thumbnails.api.schemas import RunOut
from thumbnails.exceptions import (
    AlreadyUnderWay,
    Busy,
    KeyReused,
    NotDispatched,
    NotNow,
    TooMany,
    UsageError,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 30
"""The Retry-After of what is unavailable for a while."""
MAX_ERRORS = 20
FIELDS = {"ids": "assetIds", "session": "sessionId"}
"""Fields of a selection that have other names in JSON."""


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def problem(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> HttpResponse:
    """Returns the response; `members` are added to the problem."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        **members,
    }
    return HttpResponse(
        json.dumps(content), status=status, content_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def unavailable(
    detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> HttpResponse:
    """Returns a 503 with Retry-After."""
    retry = {"Retry-After": str(RETRY_SECONDS), **(headers or {})}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=retry, **members)


def invalid(errors: list[dict[str, str]]) -> HttpResponse:
    """Returns a 422; each error has the `field` and a `detail`."""
    shown = errors[:MAX_ERRORS]
    detail = " ".join(f"{error['field']}: {error['detail']}" for error in shown[:3])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=shown)


def answer_with_problems(api: NinjaAPI) -> None:
    """Turn every exception that an operation may raise into a problem."""
    for kind, answer in ANSWERS.items():
        api.add_exception_handler(kind, answer)


def _invalid(_: HttpRequest, error: Any) -> HttpResponse:
    return invalid(
        [{"field": _field(each["loc"]), "detail": _sentence(each["msg"])} for each in error.errors]
    )


def _field(location: tuple[int | str, ...]) -> str:
    """The field's path without its source and, in a body, without the operation's parameter."""
    source, *names = location
    if source == "body":
        names = names[1:]
    return ".".join(map(str, names)) if names else str(source)


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{message[:1].upper()}{message[1:].rstrip('.')}."


def _usage_error(_: HttpRequest, error: Any) -> HttpResponse:
    field = FIELDS.get(error.about) or to_camel(error.about) or "body"
    return invalid([{"field": field, "detail": str(error)}])


def _run_of(error: Any) -> dict[str, Any]:
    """The headers and members of a problem that describe the error's run."""
    run = RunOut.of(error.run, error.run.progress())
    return {
        "headers": {"Location": reverse("thumbnails_api:run", args=[error.run.pk])},
        "run": run.model_dump(mode="json", by_alias=True),
    }


def _database_away(request: HttpRequest, error: Any) -> HttpResponse:
    logger.error("The database did not answer %s %s: %s", request.method, request.path, error)
    return unavailable("The database does not answer.")


def _unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the site's log says what."
    )


ANSWERS: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
    ProblemError: lambda _, error: problem(error.status, error.detail, headers=error.headers),
    AuthenticationError: lambda _, __: problem(
        HTTPStatus.UNAUTHORIZED,
        "This is for staff: log in to the site, or send a token as Authorization: Bearer.",
        headers={"WWW-Authenticate": "Bearer"},
    ),
    # Only the parser raises it.
    HttpError: lambda _, error: problem(error.status_code, "The body is not a valid JSON object."),
    ValidationError: _invalid,
    Http404: lambda _, error: problem(HTTPStatus.NOT_FOUND, str(error) or "There is nothing here."),
    UsageError: _usage_error,
    KeyReused: lambda _, error: invalid([{"field": "Idempotency-Key", "detail": str(error)}]),
    NotNow: lambda _, error: problem(HTTPStatus.CONFLICT, str(error)),
    AlreadyUnderWay: lambda _, error: problem(HTTPStatus.CONFLICT, str(error), **_run_of(error)),
    NotDispatched: lambda _, error: unavailable(str(error), **_run_of(error)),
    Busy: lambda _, error: unavailable(str(error)),
    TooMany: lambda _, error: problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        str(error),
        headers={"Retry-After": str(error.wait_seconds)},
        retryAfterSeconds=error.wait_seconds,
    ),
    TooManyFieldsSent: lambda _, __: problem(
        HTTPStatus.BAD_REQUEST, "The address has too many parameters."
    ),
    OperationalError: _database_away,
    InterfaceError: _database_away,
    Exception: _unexpected,
}

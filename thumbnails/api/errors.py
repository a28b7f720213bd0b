"""Errors as problem details (RFC 9457)."""

import json
import logging
from collections.abc import Mapping
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


def invalid(errors: list[dict[str, str]]) -> HttpResponse:
    """Returns a 422; each error has the `field` and a `detail`."""
    shown = errors[:MAX_ERRORS]
    detail = " ".join(f"{error['field']}: {error['detail']}" for error in shown[:3])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=shown)


def answer_with_problems(api: NinjaAPI) -> None:
    """Turn every exception that an operation may raise into a problem."""
    api.add_exception_handler(ProblemError, _problem_error)
    api.add_exception_handler(AuthenticationError, _unauthenticated)
    api.add_exception_handler(HttpError, _http_error)
    api.add_exception_handler(ValidationError, _invalid)
    api.add_exception_handler(Http404, _not_found)
    api.add_exception_handler(UsageError, _usage_error)
    api.add_exception_handler(KeyReused, _key_reused)
    api.add_exception_handler(NotNow, _not_now)
    api.add_exception_handler(AlreadyUnderWay, _already_under_way)
    api.add_exception_handler(NotDispatched, _not_dispatched)
    api.add_exception_handler(Busy, _away)
    api.add_exception_handler(TooMany, _too_many)
    api.add_exception_handler(TooManyFieldsSent, _too_many_parameters)
    api.add_exception_handler(OperationalError, _database_away)
    api.add_exception_handler(InterfaceError, _database_away)
    api.add_exception_handler(Exception, _unexpected)


def _problem_error(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(error.status, error.detail, headers=error.headers)


def _unauthenticated(_: HttpRequest, __: Any) -> HttpResponse:
    return problem(
        HTTPStatus.UNAUTHORIZED,
        "This is for staff: log in to the site, or send a token as Authorization: Bearer.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _http_error(_: HttpRequest, error: Any) -> HttpResponse:
    """The parser could not read the body; nothing else raises it."""
    return problem(error.status_code, "The body is not a valid JSON object.")


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


def _not_found(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(HTTPStatus.NOT_FOUND, str(error) or "There is nothing here.")


def _usage_error(_: HttpRequest, error: Any) -> HttpResponse:
    field = FIELDS.get(error.about) or to_camel(error.about) or "body"
    return invalid([{"field": field, "detail": str(error)}])


def _key_reused(_: HttpRequest, error: Any) -> HttpResponse:
    return invalid([{"field": "Idempotency-Key", "detail": str(error)}])


def _not_now(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(HTTPStatus.CONFLICT, str(error))


def _already_under_way(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(HTTPStatus.CONFLICT, str(error), **_run_of(error))


def _not_dispatched(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        str(error),
        **_run_of(error, {"Retry-After": str(RETRY_SECONDS)}),
    )


def _run_of(error: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The headers and members of a problem that describe the error's run."""
    run = RunOut.of(error.run, error.run.progress())
    address = reverse("thumbnails_api:run", args=[error.run.pk])
    return {
        "headers": {**(headers or {}), "Location": address},
        "run": run.model_dump(mode="json", by_alias=True),
    }


def _away(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": str(RETRY_SECONDS)}
    )


def _database_away(request: HttpRequest, error: Any) -> HttpResponse:
    logger.error("The database did not answer %s %s: %s", request.method, request.path, error)
    return _away(request, "The database does not answer.")


def _too_many(_: HttpRequest, error: Any) -> HttpResponse:
    return problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        str(error),
        headers={"Retry-After": str(error.wait_seconds)},
    )


def _too_many_parameters(_: HttpRequest, __: Any) -> HttpResponse:
    return problem(HTTPStatus.BAD_REQUEST, "The address has too many parameters.")


def _unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the site's log says what."
    )

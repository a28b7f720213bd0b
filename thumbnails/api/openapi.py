"""The OpenAPI document and its page, where django-ninja needs help."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI, Swagger
from ninja.openapi.schema import OpenAPISchema

from thumbnails.api.errors import MEDIA_TYPE
from thumbnails.api.schemas import Problem

FOR_STAFF = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
FOR_ALL = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
WITH_BODY = (
    HTTPStatus.LENGTH_REQUIRED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)


def answers(good: Mapping[int, Any] | None = None, *, also: tuple[int, ...] = ()) -> dict[int, Any]:
    """Returns the schemas of an operation's responses: `good` by status, problems for `also`."""
    return {**dict.fromkeys((*also, *FOR_ALL), Problem), **(good or {})}


class DocumentedAPI(NinjaAPI):
    """Documents the problems that every operation may return, and their media type."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(**options)
        for operations in document["paths"].values():
            for method, operation in operations.items():
                if operation.get("security"):
                    _add_problems(operation, FOR_STAFF)
                if method == "post":
                    _add_problems(operation, WITH_BODY)
                for response in operation["responses"].values():
                    content = response.get("content", {})
                    schema = content.get("application/json", {}).get("schema", {})
                    if schema.get("$ref", "").endswith("/Problem"):
                        content[MEDIA_TYPE] = content.pop("application/json")
        return document


class LocalSwagger(Swagger):
    """The API's page from django-ninja's own files, which otherwise needs its app installed."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **_: Any) -> HttpResponse:
        swagger_settings = {**self.settings, "url": self.get_openapi_url(api, {})}
        context = {"swagger_settings": json.dumps(swagger_settings), "api": api, "add_csrf": True}
        return render(request, self.template, context)


def _add_problems(operation: dict[str, Any], statuses: tuple[HTTPStatus, ...]) -> None:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in statuses:
        operation["responses"].setdefault(
            status.value, {"description": status.phrase, "content": dict(content)}
        )

"""The API as scripts call it: JSON there and back, with a token."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from thumbnails.models import ApiToken, Chunk

BASE = "/api/v1"
PROBLEM = "application/problem+json"

_NO_BODY = object()


class Caller:
    """Calls the API with a new token of this user's, or of none.

    Gives Django's test responses, whose types tell less than they have.
    """

    def __init__(self, user: User | None = None) -> None:
        self.client = Client()
        if user is not None:
            _, secret = ApiToken.objects.issue(user, "tests")
            self.client = Client(headers={"Authorization": f"Bearer {secret}"})

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(BASE + path, query)

    def post(self, path: str, body: Any = _NO_BODY, *, key: str = "") -> Any:
        body = b"" if body is _NO_BODY else json.dumps(body).encode()
        return self.post_bytes(path, body, key=key)

    def post_bytes(
        self, path: str, body: bytes, *, content_type: str = "application/json", key: str = ""
    ) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return self.client.generic("POST", BASE + path, body, content_type, headers=headers)


def problem_of(response: Any, status: HTTPStatus) -> dict[str, Any]:
    """The problem that was answered, after a look at what all of them have."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == PROBLEM
    problem: dict[str, Any] = response.json()
    assert problem["type"] == "about:blank"
    assert problem["title"] == status.phrase
    assert problem["status"] == status
    assert problem["detail"][0].isupper() or ": " in problem["detail"]
    assert problem["detail"].endswith(".")
    return problem


def faults_of(response: Any) -> dict[str, str]:
    """Of a 422: what is wrong, by the field."""
    problem = problem_of(response, HTTPStatus.UNPROCESSABLE_ENTITY)
    assert set(problem) == {"type", "title", "status", "detail", "errors"}
    for error in problem["errors"]:
        assert set(error) == {"field", "detail"}
        assert error["detail"].endswith(".")
    return {error["field"]: error["detail"] for error in problem["errors"]}


def assets_of(run_id: int) -> set[int]:
    """The ids of the assets in a run's frozen scope."""
    slices = Chunk.objects.filter(run=run_id).values_list("asset_ids", flat=True)
    return {asset_id for ids in slices for asset_id in ids}

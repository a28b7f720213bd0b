"""Whatever the API's own document allows or forbids is sent to it, and its answers are held to it.

For each operation: the document's limits and what lies just beyond them, other methods than its
own, and a few random requests, which are the same ones each time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import start_here
from tests.servers import QueueServer
from thumbnails.api import api, auth
from thumbnails.models import ApiToken, ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

EXCLUDED: list[Any] = [positive_data_acceptance]
"""No document can say which ids there are, or that a purge needs one condition."""
RANDOM_REQUESTS = 4
CONFIG = {
    "seed": 1,
    "generation": {"deterministic": True, "max-examples": RANDOM_REQUESTS},
}
schema = schemathesis.openapi.from_dict(
    dict(api.get_openapi_schema()), config=schemathesis.Config.from_dict(CONFIG)
)
as_told = hypothesis_settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@cache
def handler() -> WSGIHandler:
    return WSGIHandler()


def site(environ: dict[str, Any], start_response: Any) -> Any:
    """The site as an application, made when it is first asked."""
    return handler()(environ, start_response)


schema.app = site
public = schema.include(path_regex="/images/{id}/thumbnail$|/healthz|/readyz")
"""Without a token; all others answer 401 then, which test_api_access.py sees to."""


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """So many requests come otherwise only from one who is guessing."""
    monkeypatch.setattr(auth, "FAILURES_AT_MOST", 10**9)
    settings.THUMBNAIL_RENDERS_PER_MINUTE = 1_000_000


@pytest.fixture
def asset(make_asset: MakeAsset) -> ImageAsset:
    make_asset(pictures.png(), session="Sea")
    return make_asset(session="Sea")


@pytest.fixture
def run(asset: ImageAsset, queue_server: QueueServer) -> Run:
    run = start_here()
    chunk = run.chunks.first()
    assert chunk is not None
    chunk.failures, chunk.failed = {"unreadable": [asset.pk]}, 1
    chunk.save()
    return run


@pytest.fixture
def statuses() -> Iterator[Counter[int]]:
    """How often each status was answered: each operation has to have had something to do, too."""
    counted: Counter[int] = Counter()
    yield counted
    assert any(200 <= status < 300 for status in counted), counted


def bind(case: Case[Any], asset: ImageAsset, run: Run) -> None:
    """Put ids that exist in the place of most of those that were made up."""
    ours = {"/images/": asset.pk, "/sessions/": asset.session_ids[0], "/runs/": run.pk}
    made_up = str(case.path_parameters.get("id"))
    for part, pk in ours.items():
        if part in case.path and re.fullmatch("[1-9][0-9]{0,17}", made_up) and int(made_up) % 3:
            case.path_parameters["id"] = pk
    state = Run.State.CANCELLED if case.path.endswith("/resume") else Run.State.RUNNING
    Run.objects.filter(pk=run.pk).update(state=state)
    is_good = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if is_good and isinstance(case.body, dict):
        if case.body.get("assetIds"):
            case.body["assetIds"] = [asset.pk]
        if case.body.get("sessionId"):
            case.body["sessionId"] = asset.session_ids[0]


@public.parametrize()
@as_told
def test_schema__anonymous(case: Case[Any], asset: ImageAsset, run: Run) -> None:
    bind(case, asset, run)
    case.call_and_validate(excluded_checks=EXCLUDED)


@schema.parametrize()
@as_told
def test_schema__staff_by_token(
    case: Case[Any], secret: str, asset: ImageAsset, run: Run, statuses: Counter[int]
) -> None:
    bind(case, asset, run)
    response = case.call_and_validate(
        headers={"Authorization": f"Bearer {secret}"}, excluded_checks=EXCLUDED
    )
    statuses[response.status_code] += 1


@pytest.fixture
def secret(staff: User) -> str:
    _, secret = ApiToken.objects.issue(staff, "tests")
    return secret

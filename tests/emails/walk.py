"""Through the admin, the API and the command as a user who is known by an e-mail address.

Run by `tests/test_custom_user.py`, in a process with these settings.
"""

from __future__ import annotations

import io
import json
import re
from http import HTTPStatus
from typing import Any, cast

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client

from tests.callers import BASE
from tests.conftest import MakeAsset
from tests.emails.models import User
from tests.servers import QueueServer
from thumbnails.models import ApiToken, ImageAsset, Run

pytestmark = pytest.mark.django_db(transaction=True)

EMAIL = "ann@example.org"
ADMIN = "/admin/thumbnails"


def text_of(response: Any) -> str:
    assert response.status_code == HTTPStatus.OK, response.status_code
    return str(response.content.decode())


@pytest.fixture(params=["superuser", "staff"])
def user(request: pytest.FixtureRequest) -> User:
    """Once with every right, once with those of the app."""
    user = User(email=EMAIL, is_superuser=request.param == "superuser")
    user.save()
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="thumbnails"))
    return user


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(cast(Any, user))  # mypy knows the site's own users
    return client


@pytest.fixture
def asset(make_asset: MakeAsset) -> ImageAsset:
    return make_asset(session="Sea")


def secret_of(user: User) -> str:
    output = io.StringIO()
    call_command("create_api_token", user.email, "--name", "import", "--json", stdout=output)
    report = json.loads(output.getvalue())
    assert report["user"] == EMAIL
    return str(report["token"])


def test_command__finds_the_user(user: User) -> None:
    assert secret_of(user).startswith("thumb_")
    assert ApiToken.objects.get().user.get_username() == EMAIL


def test_api__by_token(user: User, asset: ImageAsset, queue_server: QueueServer) -> None:
    headers = {"Authorization": f"Bearer {secret_of(user)}"}
    api = Client(headers=headers)
    assert api.get(f"{BASE}/images").json()["images"][0]["assetId"] == asset.pk
    started = api.post(f"{BASE}/admin/thumbnails/regenerate", content_type="application/json")
    assert started.status_code == HTTPStatus.ACCEPTED, started.content
    assert started.json()["startedBy"] == EMAIL
    assert api.get(started["Location"]).json()["startedBy"] == EMAIL
    assert api.get(f"{BASE}/admin/thumbnails/runs").json()["runs"][0]["startedBy"] == EMAIL
    assert Client(headers={"Authorization": "Bearer x"}).get(f"{BASE}/images").status_code == 401


def test_admin__of_tokens(client: Client, user: User) -> None:
    assert 'name="name"' in text_of(client.get(f"{ADMIN}/apitoken/add/"))
    data = {"name": "nightly", **({"user": user.pk} if user.is_superuser else {})}
    assert "thumb_" in text_of(client.post(f"{ADMIN}/apitoken/add/", data))
    token = ApiToken.objects.get()
    assert token.user.pk == user.pk
    for query in ("", "?q=ann", *(f"?o={column}" for column in range(1, 8))):
        assert EMAIL in text_of(client.get(f"{ADMIN}/apitoken/{query}"))
    assert EMAIL in text_of(client.get(f"{ADMIN}/apitoken/{token.pk}/change/"))
    revoke = {"action": "revoke", "_selected_action": [token.pk]}
    assert "1 token revoked" in text_of(client.post(f"{ADMIN}/apitoken/", revoke, follow=True))


def test_admin__of_runs(client: Client, asset: ImageAsset, queue_server: QueueServer) -> None:
    plan = f"{ADMIN}/imageasset/plan/regenerate/"
    once = re.search(r'name="once" value="(\w+)"', text_of(client.get(plan)))
    assert once is not None
    page = text_of(client.post(plan, {"once": once[1], "start": "x"}, follow=True))
    run = Run.objects.get()
    assert EMAIL in page
    assert EMAIL in text_of(client.get(plan))  # who does the same already
    for query in ("", "?kind__exact=regenerate", *(f"?o={column}" for column in range(1, 10))):
        assert EMAIL in text_of(client.get(f"{ADMIN}/run/{query}"))
    for verb in ("cancel", "resume"):
        text_of(client.post(f"{ADMIN}/run/{run.pk}/act/{verb}/", follow=True))
    assert EMAIL in text_of(client.get(f"{ADMIN}/run/{run.pk}/change/"))
    assert "Cache" in text_of(client.get(f"{ADMIN}/cache/"))


def test_admin__of_assets(client: Client, asset: ImageAsset) -> None:
    page = f"{ADMIN}/imageasset/{asset.pk}"
    for address in (f"{ADMIN}/", f"{ADMIN}/imageasset/?q=picture", f"{page}/change/"):
        text_of(client.get(address))
    assert "rendered" in text_of(client.post(f"{page}/regenerate/", follow=True))
    assert EMAIL in text_of(client.get(f"{page}/history/"))

"""API tokens: made by the command and in the admin, shown once, noted when used, revoked."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from unittest.mock import patch

import pytest
from django.apps import apps
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.test.utils import isolate_apps
from django.utils import timezone
from pytest_django import Settings

from tests.callers import BASE
from tests.conftest import Manage
from tests.servers import QueueServer
from thumbnails.models import ApiToken
from thumbnails.models.tokens import USE_NOTED_EVERY

pytestmark = pytest.mark.django_db

LIST = "/admin/thumbnails/apitoken/"
SECRET = re.compile(r"thumb_[A-Za-z0-9_-]{43}")


def status_with(secret: str) -> int:
    """What the API answers to one who shows this secret."""
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    return int(client.get(f"{BASE}/images").status_code)


def is_anywhere_in_the_database(text: str) -> bool:
    """Whether any row of any table holds it in clear."""
    managers = [m._meta.default_manager for m in apps.get_models() if m._meta.managed]
    rows = (row for manager in managers if manager for row in manager.values_list())
    return any(text in str(value) for row in rows for value in row)


# --- The command ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_command__shows_the_token_once_and_it_opens(staff: User, manage: Manage) -> None:
    done = manage("create_api_token", "staff", "--name", "nightly import")
    assert done.returncode == 0, done.stderr
    secret = done.stdout.strip()
    assert SECRET.fullmatch(secret)  # alone, so that a script may take it
    assert "shown once" in done.stderr
    assert secret not in done.stderr
    token = ApiToken.objects.get()
    assert (token.name, token.user, token.expires_at) == ("nightly import", staff, None)
    assert secret.startswith(token.hint)
    assert len(token.hint) < len(secret) / 4
    assert not is_anywhere_in_the_database(secret)
    assert is_anywhere_in_the_database(token.hint)  # the look itself works
    assert status_with(secret) == HTTPStatus.OK
    for wrong in (secret[:-1], secret + "x", secret.swapcase(), token.digest):
        assert status_with(wrong) == HTTPStatus.UNAUTHORIZED
    unknown = manage("create_api_token", "nobody", "--name", "x")
    assert unknown.returncode == 2
    assert "There is no user 'nobody'" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def create(*arguments: str) -> tuple[str, str]:
    """The command's standard output and standard error."""
    output, errors = io.StringIO(), io.StringIO()
    call_command("create_api_token", *arguments, stdout=output, stderr=errors)
    return output.getvalue(), errors.getvalue()


def test_command__json_and_expiry(staff: User) -> None:
    output, errors = create("staff", "--name", " ci ", "--expires", "90d", "--json")
    report = json.loads(output)
    assert set(report) == {"token", "name", "user", "expiresAt"}
    assert (report["name"], report["user"], errors) == ("ci", "staff", "")
    token = ApiToken.objects.get()
    assert token.expires_at is not None
    assert datetime.fromisoformat(report["expiresAt"]) == token.expires_at
    in_90_days = timezone.now() + timedelta(days=90)
    assert abs(token.expires_at - in_90_days) < timedelta(minutes=5)
    assert status_with(report["token"]) == HTTPStatus.OK
    ApiToken.objects.update(expires_at=timezone.now())
    assert status_with(report["token"]) == HTTPStatus.UNAUTHORIZED
    forever, _ = create("staff", "--name", "ci", "--json")
    assert json.loads(forever)["expiresAt"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["staff", "--name", ""], "1 to 100 characters"),
        (["staff", "--name", "  "], "1 to 100 characters"),
        (["staff", "--name", "x" * 101], "1 to 100 characters"),
        (["staff"], "--name"),
        (["staff", "--name", "x", "--expires", "soon"], "is not an age in days like 7d"),
        (["staff", "--name", "x", "--expires", "0d"], "expired"),
    ],
)
def test_command__wrong_usage_makes_none(staff: User, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=re.escape(sentence)) as caught:
        create(*arguments)
    assert caught.value.returncode in (1, 2)  # argparse's own errors get their 2 on the way out
    assert not ApiToken.objects.exists()


def test_command__warns_of_a_user_that_the_api_will_not_let_in(staff: User) -> None:
    User.objects.create_user("visitor")
    output, errors = create("visitor", "--name", "x")
    assert "is not staff" in errors
    assert status_with(output.strip()) == HTTPStatus.FORBIDDEN
    _, errors = create("staff", "--name", "x")
    assert "is not staff" not in errors


# --- The admin ------------------------------------------------------------------------------------


def add(client: Client, **data: Any) -> Any:
    return client.post(f"{LIST}add/", {"name": "import", **data})


def secret_in(response: Any) -> str:
    assert response.status_code == HTTPStatus.OK
    [secret] = set(SECRET.findall(response.content.decode()))
    return str(secret)


def test_admin__shows_the_secret_once_and_keeps_it_nowhere(
    staff_client: Client, staff: User
) -> None:
    response = add(staff_client)
    secret = secret_in(response)
    assert "no-store" in response["Cache-Control"]
    token = ApiToken.objects.get()
    assert (token.user, token.name) == (staff, "import")
    assert status_with(secret) == HTTPStatus.OK
    assert not is_anywhere_in_the_database(secret)
    assert secret not in str(response.cookies)
    for path in (LIST, f"{LIST}{token.pk}/change/", f"{LIST}{token.pk}/history/", "/admin/"):
        page = staff_client.get(path)
        assert page.status_code == HTTPStatus.OK
        text = page.content.decode()
        assert secret not in text
        assert token.digest not in text
    assert token.hint in staff_client.get(LIST).content.decode()


def test_admin__expiry_has_to_be_in_the_future(staff_client: Client) -> None:
    past = add(staff_client, expires_at_0="2020-01-01", expires_at_1="00:00:00")
    assert "That has passed already" in past.content.decode()
    assert not ApiToken.objects.exists()
    secret_in(add(staff_client, expires_at_0="2099-01-01", expires_at_1="00:00:00"))
    assert ApiToken.objects.get().expires_at == datetime(2099, 1, 1, tzinfo=UTC)


def test_admin__staff_make_tokens_for_themselves_alone(
    staff_client: Client, staff: User, superuser: User
) -> None:
    assert 'name="user"' not in staff_client.get(f"{LIST}add/").content.decode()
    secret_in(add(staff_client, user=superuser.pk))  # a forged form
    assert ApiToken.objects.get().user == staff


def test_admin__superuser_makes_tokens_for_others_on_the_staff(
    admin_client: Client, staff: User
) -> None:
    visitor = User.objects.create_user("visitor")
    refused = add(admin_client, user=visitor.pk)
    assert "Select a valid choice" in refused.content.decode()
    secret = secret_in(add(admin_client, user=staff.pk))
    assert ApiToken.objects.get().user == staff
    assert status_with(secret) == HTTPStatus.OK


def test_admin__staff_see_and_revoke_only_their_own(
    staff_client: Client, staff: User, superuser: User
) -> None:
    mine, my_secret = ApiToken.objects.issue(staff, "mine")
    theirs, their_secret = ApiToken.objects.issue(superuser, "theirs")
    page = staff_client.get(LIST).content.decode()
    assert mine.hint in page
    assert theirs.hint not in page
    own = staff_client.get(f"{LIST}{mine.pk}/change/")
    assert own.status_code == HTTPStatus.OK
    assert 'name="_save"' not in own.content.decode()
    foreign = staff_client.get(f"{LIST}{theirs.pk}/change/")
    assert foreign.status_code == HTTPStatus.FOUND  # "doesn't exist", and back to the index
    staff_client.post(f"{LIST}{theirs.pk}/delete/", {"post": "yes"})
    assert status_with(their_secret) == HTTPStatus.OK
    revoke = {"action": "revoke", "_selected_action": [mine.pk, theirs.pk]}
    response = staff_client.post(LIST, revoke, follow=True)
    assert "1 token revoked" in response.content.decode()
    assert status_with(my_secret) == HTTPStatus.UNAUTHORIZED
    assert status_with(their_secret) == HTTPStatus.OK
    assert "Revoked" in staff_client.get(LIST).content.decode()


def test_admin__nothing_of_a_token_can_be_changed(staff_client: Client, staff: User) -> None:
    token, secret = ApiToken.objects.issue(staff, "mine")
    ApiToken.objects.revoke()
    data = {"name": "other", "revoked_at_0": "", "revoked_at_1": ""}
    response = staff_client.post(f"{LIST}{token.pk}/change/", data)
    assert response.status_code == HTTPStatus.FORBIDDEN
    token.refresh_from_db()
    assert token.name == "mine"
    assert status_with(secret) == HTTPStatus.UNAUTHORIZED


def test_admin__needs_the_permissions(client: Client, staff: User) -> None:
    token, _ = ApiToken.objects.issue(staff, "mine")
    staff.user_permissions.set(Permission.objects.filter(codename="view_apitoken"))
    client.force_login(staff)
    assert add(client).status_code == HTTPStatus.FORBIDDEN
    assert 'value="revoke"' not in client.get(LIST).content.decode()
    client.post(LIST, {"action": "revoke", "_selected_action": [token.pk]})
    token.refresh_from_db()
    assert token.revoked_at is None
    assert ApiToken.objects.count() == 1


# --- Use ------------------------------------------------------------------------------------------


def test_use__is_noted_at_most_once_a_minute(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    token, secret = ApiToken.objects.issue(staff, "mine")
    begin = timezone.now()

    def used_after(seconds: float) -> timedelta:
        monkeypatch.setattr(timezone, "now", lambda: begin + timedelta(seconds=seconds))
        assert status_with(secret) == HTTPStatus.OK
        token.refresh_from_db()
        assert token.last_used_at is not None
        return token.last_used_at - begin

    assert token.last_used_at is None
    minute = USE_NOTED_EVERY.total_seconds()
    assert used_after(0) == timedelta(0)
    assert used_after(minute - 1) == timedelta(0)
    assert used_after(minute) == timedelta(seconds=minute)


def test_use__of_a_revoked_token_is_not_noted(staff: User) -> None:
    token, secret = ApiToken.objects.issue(staff, "mine")
    assert ApiToken.objects.revoke() == 1
    assert ApiToken.objects.revoke() == 0
    assert status_with(secret) == HTTPStatus.UNAUTHORIZED
    token.refresh_from_db()
    assert token.last_used_at is None


def test_token__goes_with_its_user(staff: User) -> None:
    _, secret = ApiToken.objects.issue(staff, "mine")
    staff.delete()
    assert status_with(secret) == HTTPStatus.UNAUTHORIZED
    assert not ApiToken.objects.exists()


# --- Passwords ------------------------------------------------------------------------------------

NEW = "quite-another-one"


def by_the_admins_form(staff: User, admin_client: Client) -> None:
    data = {"usable_password": "true", "password1": NEW, "password2": NEW, "set-password": "1"}
    response = admin_client.post(f"/admin/auth/user/{staff.pk}/password/", data)
    assert response.status_code == HTTPStatus.FOUND


def by_disabling_it_in_the_admin(staff: User, admin_client: Client) -> None:
    data = {"usable_password": "false", "unset-password": "1"}
    response = admin_client.post(f"/admin/auth/user/{staff.pk}/password/", data)
    assert response.status_code == HTTPStatus.FOUND


def by_the_command(staff: User, admin_client: Client) -> None:
    with patch("getpass.getpass", return_value=NEW):
        call_command("changepassword", "staff", stdout=io.StringIO())


def by_making_it_unusable(staff: User, admin_client: Client) -> None:
    staff.set_unusable_password()
    staff.save(update_fields=["password"])


def by_code_that_saves_only_it(staff: User, admin_client: Client) -> None:
    staff.set_password(NEW)
    staff.save(update_fields=["password"])


def by_code_that_hashes_it_itself(staff: User, admin_client: Client) -> None:
    staff.password = make_password(NEW)
    staff.save()


def by_a_proxy_of_the_user_model(staff: User, admin_client: Client) -> None:
    with isolate_apps("tests"):

        class Colleague(User):
            class Meta:
                app_label = "tests"
                proxy = True

        colleague = Colleague.objects.get(pk=staff.pk)
    colleague.set_password(NEW)
    colleague.save()


@pytest.mark.parametrize(
    "reset",
    [
        by_the_admins_form,
        by_disabling_it_in_the_admin,
        by_the_command,
        by_making_it_unusable,
        by_code_that_saves_only_it,
        by_code_that_hashes_it_itself,
        by_a_proxy_of_the_user_model,
    ],
)
def test_password__reset_revokes_the_tokens_of_this_user(
    reset: Callable[[User, Client], None],
    staff: User,
    superuser: User,
    admin_client: Client,
    queue_server: QueueServer,  # forgets the wrong tokens of other tests
) -> None:
    token, secret = ApiToken.objects.issue(staff, "theirs")
    _, other = ApiToken.objects.issue(superuser, "other")
    reset(staff, admin_client)
    assert status_with(secret) == HTTPStatus.UNAUTHORIZED
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert status_with(other) == HTTPStatus.OK


def test_password__reset_in_the_admin_says_what_it_revoked(
    staff: User, admin_client: Client
) -> None:
    for name in ("nightly", "ci"):
        ApiToken.objects.issue(staff, name)

    def said() -> str:
        by_the_admins_form(staff, admin_client)
        return admin_client.get(f"/admin/auth/user/{staff.pk}/change/").content.decode()

    assert "2 API tokens of staff were revoked" in said()
    assert "revoked" not in said()


def test_password__changed_by_the_user_keeps_the_tokens(staff: User, staff_client: Client) -> None:
    _, secret = ApiToken.objects.issue(staff, "mine")
    data = {"old_password": "staff", "new_password1": NEW, "new_password2": NEW}
    response = staff_client.post("/admin/password_change/", data)
    assert response.status_code == HTTPStatus.FOUND
    staff.refresh_from_db()
    assert staff.check_password(NEW)
    assert status_with(secret) == HTTPStatus.OK
    assert Client().get("/admin/password_change/").status_code == HTTPStatus.FOUND  # to the login


def test_password__hashed_again_at_a_login_keeps_the_tokens(
    staff: User, settings: Settings
) -> None:
    _, secret = ApiToken.objects.issue(staff, "mine")
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    data = {"username": "staff", "password": "staff"}
    assert Client().post("/admin/login/", data).status_code == HTTPStatus.FOUND
    staff.refresh_from_db()
    assert staff.password.startswith("pbkdf2_")
    assert status_with(secret) == HTTPStatus.OK


def test_password__that_stays_keeps_the_tokens(staff: User) -> None:
    staff.set_unusable_password()
    staff.save()
    _, secret = ApiToken.objects.issue(staff, "mine")
    staff.email = "staff@example.org"
    staff.save()
    assert status_with(secret) == HTTPStatus.OK

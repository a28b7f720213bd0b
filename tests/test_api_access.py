"""What wrong credentials are answered, what errors disclose, and how often each may try.

Which permissions each operation needs stands in `test_access.py`, with all other pages.
"""

from __future__ import annotations

import copy
import logging
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, transaction
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from tests.callers import BASE, Caller, problem_of
from tests.conftest import MakeAsset
from tests.processes import ROOT
from tests.servers import QueueServer
from tests.waiting import PATIENCE_SECONDS
from thumbnails.api import api as the_api
from thumbnails.api import auth
from thumbnails.exceptions import TooMany
from thumbnails.models import ApiToken, ImageAsset, Run
from thumbnails.throttling import Throttle, client_address
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.runs import control, starting
from thumbsite import logins

pytestmark = pytest.mark.django_db

# --- Who asks -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Who:
    """What those are answered who read something, and who change something."""

    reads: int
    changes: int


LET_IN = 0
"""Stands for the operation's own good answer."""

WHO = {
    "anonymous": Who(reads=401, changes=401),
    "user": Who(reads=403, changes=403),
    "user's token": Who(reads=403, changes=403),
    "staff without permission": Who(reads=403, changes=403),
    "token of staff without permission": Who(reads=403, changes=403),
    "staff": Who(reads=LET_IN, changes=LET_IN),
    "staff without CSRF token": Who(reads=LET_IN, changes=403),
    "staff with wrong CSRF token": Who(reads=LET_IN, changes=403),
    "inactive staff": Who(reads=401, changes=401),
    "token": Who(reads=LET_IN, changes=LET_IN),
    "unknown token": Who(reads=401, changes=401),
    "staff with unknown token": Who(reads=401, changes=401),
    "revoked token": Who(reads=401, changes=401),
    "expired token": Who(reads=401, changes=401),
    "token of inactive user": Who(reads=401, changes=401),
    "another scheme": Who(reads=401, changes=401),
}

# --- What is asked for ----------------------------------------------------------------------------

# Each operation of the API: whether it is for everybody, and its answer to who may.
TABLE: dict[tuple[str, str], tuple[bool, int]] = {
    ("GET", "/images/{id}/thumbnail"): (True, 200),
    ("GET", "/healthz"): (True, 200),
    ("GET", "/readyz"): (True, 200),
    ("GET", "/images/{id}"): (False, 200),
    ("GET", "/images"): (False, 200),
    ("GET", "/admin/thumbnails/runs"): (False, 200),
    ("GET", "/admin/thumbnails/runs/{id}"): (False, 200),
    ("GET", "/admin/thumbnails/runs/{id}/report"): (False, 200),
    ("GET", "/admin/thumbnails/statistics"): (False, 200),
    ("POST", "/images/{id}/thumbnail/generate"): (False, 200),
    ("POST", "/training/sessions/{id}/thumbnails"): (False, 202),
    ("POST", "/admin/thumbnails/regenerate"): (False, 202),
    ("POST", "/admin/thumbnails/purge"): (False, 202),
    ("POST", "/admin/thumbnails/runs/{id}/cancel"): (False, 202),
    ("POST", "/admin/thumbnails/runs/{id}/resume"): (False, 202),
    ("POST", "/admin/thumbnails/runs/{id}/retry"): (False, 202),
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """What there is to be called."""

    asset: ImageAsset
    run: Run

    def path(self, path: str) -> str:
        """The operation's address, where it has something to do."""
        match path.split("/")[1:3]:
            case ["images", _]:
                return path.replace("{id}", str(self.asset.pk))
            case ["training", _]:
                return path.replace("{id}", str(self.asset.session_ids[0]))
        if path.endswith("/retry"):
            chunk = self.run.chunks.get()
            chunk.failures, chunk.failed = {"unreadable": [self.asset.pk]}, 1
            chunk.save()
        if path.endswith("/resume"):
            control.cancel(self.run)
        return path.replace("{id}", str(self.run.pk))


@pytest.fixture
def site(make_asset: MakeAsset, queue_server: QueueServer) -> Site:
    asset = make_asset(session="Sea")
    serving.serve(asset)
    run = starting.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        scope={"name": "of another request"},
        scope_text="others",
        origin=Run.Origin.COMMAND,
        leased=True,
    )
    return Site(asset=asset, run=run)


BODIES = {"/admin/thumbnails/purge": b'{"all": true}'}


def session(user: User, *, csrf: str = "", **headers: str) -> Client:
    client = Client(enforce_csrf_checks=True, headers=headers)
    client.force_login(user)
    if csrf:
        client.cookies["csrftoken"] = "c" * 32
        client.defaults["HTTP_X_CSRFTOKEN"] = csrf
    return client


def bearer(secret: str) -> Client:
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {secret}"})


def token_of(user: User, **changed: Any) -> Client:
    token, secret = ApiToken.objects.issue(user, "tests")
    ApiToken.objects.filter(pk=token.pk).update(**changed)
    return bearer(secret)


def new_user(name: str, *permissions: str, **how: Any) -> User:
    user = User.objects.create_user(name, **how)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def client_of(who: str, staff: User) -> Client:  # noqa: C901  a table
    every = list(Permission.objects.values_list("codename", flat=True))
    right = "c" * 32
    match who:
        case "anonymous":
            return Client(enforce_csrf_checks=True)
        case "user":
            return session(new_user("user", *every), csrf=right)
        case "user's token":
            return token_of(new_user("user", *every))
        case "staff without permission":
            return session(new_user("bare", is_staff=True), csrf=right)
        case "token of staff without permission":
            return token_of(new_user("bare", is_staff=True))
        case "staff":
            return session(staff, csrf=right)
        case "staff without CSRF token":
            return session(staff)
        case "staff with wrong CSRF token":
            return session(staff, csrf="d" * 32)
        case "inactive staff":
            client = session(staff, csrf=right)
            User.objects.update(is_active=False)
            return client
        case "token":
            return token_of(staff)
        case "unknown token":
            return bearer("thumb_0123456789")
        case "staff with unknown token":
            return session(staff, csrf=right, Authorization="Bearer thumb_0123456789")
        case "revoked token":
            return token_of(staff, revoked_at=timezone.now())
        case "expired token":
            return token_of(staff, expires_at=timezone.now() - timedelta(seconds=1))
        case "token of inactive user":
            client = token_of(staff)
            User.objects.update(is_active=False)
            return client
        case "another scheme":
            return Client(headers={"Authorization": "Basic c3RhZmY6c3RhZmY="})
    raise AssertionError(who)


@pytest.fixture
def tells_nothing(thumbnail_dir: Path, originals_dir: Path) -> Callable[[Any], bool]:
    """Whether an answer is free of what is for those inside alone."""
    private = ["Traceback", 'File "', "SELECT", "sqlite", "psycopg", "redis", "valkey"]
    private += [str(path) for path in (thumbnail_dir, originals_dir, ROOT)]

    def look(response: Any) -> bool:
        text = response.content.decode(errors="replace")
        headers = str(response.headers)
        return not any(word in text or word in headers for word in private)

    return look


@contextmanager
def undone() -> Iterator[None]:
    """Whatever is done within is taken back in the database."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_access__each_operation_by_each_caller(
    site: Site, staff: User, method: str, path: str, tells_nothing: Callable[[Any], bool]
) -> None:
    is_public, good = TABLE[method, path]
    number = Run.objects.count()
    answers = {}
    for who, rights in WHO.items():
        refusal = rights.reads if method == "GET" else rights.changes
        with undone():
            client = client_of(who, staff)
            address = BASE + site.path(path)
            response: Any = client.generic(
                method, address, BODIES.get(path, b""), "application/json"
            )
            answers[who] = response.status_code
            if is_public or refusal == LET_IN or response.status_code != refusal:
                continue
            problem_of(response, HTTPStatus(refusal))
            assert tells_nothing(response)
            assert Run.objects.count() == number
            is_unknown = refusal == HTTPStatus.UNAUTHORIZED
            assert ("WWW-Authenticate" in response) == is_unknown
    assert answers == {
        who: good if is_public else (rights.reads if method == "GET" else rights.changes) or good
        for who, rights in WHO.items()
    }


def without_a_row(document: dict[str, Any]) -> set[tuple[str, str]]:
    """The operations that no test of this table would call."""
    operations = {
        (method.upper(), path.removeprefix(BASE))
        for path, methods in document["paths"].items()
        for method in methods
    }
    return operations - set(TABLE)


def test_access__table_has_every_operation() -> None:
    document = the_api.get_openapi_schema()
    assert not without_a_row(document)
    assert len(TABLE) == sum(map(len, document["paths"].values()))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            is_public, _ = TABLE[method.upper(), path.removeprefix(BASE)]
            assert bool(operation.get("security")) is not is_public


def test_access__new_operation_without_a_row_is_noticed() -> None:
    document = copy.deepcopy(dict(the_api.get_openapi_schema()))
    document["paths"][f"{BASE}/images"]["delete"] = {}
    assert without_a_row(document) == {("DELETE", "/images")}


def test_refusal__names_the_permission(site: Site) -> None:
    Run.objects.update(kind=Run.Kind.PURGE)
    may_not = token_of(new_user("regenerates", "regenerate_thumbnails", is_staff=True))
    path = f"{BASE}/admin/thumbnails/runs/{site.run.pk}/cancel"
    response = may_not.post(path, b"", "application/json")
    problem = problem_of(response, HTTPStatus.FORBIDDEN)
    assert "purge_thumbnails" in problem["detail"]


# --- What strangers are told ----------------------------------------------------------------------

SECRET = "SELECT 1; /srv/secret/path"


@pytest.mark.parametrize(
    ("broken", "method", "path"),
    [
        ("thumbnails.upkeep.images.serving.serve", "GET", "/images/{id}/thumbnail"),
        ("thumbnails.api.health.reachable", "GET", "/readyz"),
        ("thumbnails.api.auth.ApiToken.objects.with_secret", "GET", "/images"),
        ("thumbnails.api.images.ImageOut.of", "GET", "/images/{id}"),
        ("thumbnails.upkeep.images.serving.render_now", "POST", "/images/{id}/thumbnail/generate"),
        ("thumbnails.upkeep.runs.starting.start", "POST", "/admin/thumbnails/regenerate"),
    ],
)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError(SECRET), HTTPStatus.INTERNAL_SERVER_ERROR),
        (OperationalError(SECRET), HTTPStatus.SERVICE_UNAVAILABLE),
    ],
)
def test_unforeseen__is_a_problem_without_details(
    site: Site,
    staff: User,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tells_nothing: Callable[[Any], bool],
    broken: str,
    method: str,
    path: str,
    error: Exception,
    status: HTTPStatus,
) -> None:
    client = token_of(staff)
    address = BASE + site.path(path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(broken, fail)
    with caplog.at_level(logging.ERROR, "thumbnails"):
        response: Any = client.generic(method, address, b"", "application/json")
    problem = problem_of(response, status)
    assert set(problem) == {"type", "title", "status", "detail"}
    assert SECRET not in response.content.decode()
    assert tells_nothing(response)
    assert (status == HTTPStatus.SERVICE_UNAVAILABLE) == ("Retry-After" in response)
    assert f"{method} {address}" in caplog.text  # who looks after the site learns more
    assert SECRET in caplog.text


# --- How often ------------------------------------------------------------------------------------

NOON = 1_700_000_000 - 1_700_000_000 % 3600
"""The beginning of a window of every length."""


class Clock:
    """What the throttles take for now: no end of a window comes between two requests of a test."""

    def __init__(self) -> None:
        self.seconds = NOON + 10

    def time(self) -> float:
        return float(self.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("thumbnails.throttling.time", SimpleNamespace(time=clock.time))
    return clock


def try_token(address: str = "10.0.0.1", **headers: str) -> Any:
    return bearer("wrong").get(f"{BASE}/images", headers=headers, REMOTE_ADDR=address)


def test_wrong_tokens__too_many_are_429_and_a_right_one_passes(
    staff: User, clock: Clock, queue_server: QueueServer
) -> None:
    for _ in range(auth.FAILURES_AT_MOST):
        problem_of(try_token(), HTTPStatus.UNAUTHORIZED)
    refused = try_token()
    problem = problem_of(refused, HTTPStatus.TOO_MANY_REQUESTS)
    assert refused["Retry-After"] == "50"
    assert "in 50 seconds" in problem["detail"]
    right = token_of(staff).get(f"{BASE}/images", REMOTE_ADDR="10.0.0.1")
    assert right.status_code == HTTPStatus.OK
    assert try_token("10.0.0.2").status_code == HTTPStatus.UNAUTHORIZED
    clock.seconds += 50
    assert try_token().status_code == HTTPStatus.UNAUTHORIZED


def test_wrong_tokens__forwarded_addresses_are_believed_only_of_our_proxies(
    clock: Clock, queue_server: QueueServer, settings: Settings
) -> None:
    def try_as(number: int) -> int:
        forwarded = f"192.0.2.{number}, 198.51.100.{number}"
        return int(try_token(**{"X-Forwarded-For": forwarded}).status_code)

    statuses = {try_as(number) for number in range(auth.FAILURES_AT_MOST)}
    assert statuses == {HTTPStatus.UNAUTHORIZED}
    assert try_as(200) == HTTPStatus.TOO_MANY_REQUESTS
    settings.NINJA_NUM_PROXIES = 1
    assert try_as(201) == HTTPStatus.UNAUTHORIZED
    for number in range(auth.FAILURES_AT_MOST):
        forged = f"192.0.2.{number}, 203.0.113.1"
        assert try_token(**{"X-Forwarded-For": forged}).status_code == HTTPStatus.UNAUTHORIZED
    last = try_token(**{"X-Forwarded-For": "192.0.2.99, 203.0.113.1"})
    assert last.status_code == HTTPStatus.TOO_MANY_REQUESTS


def test_address__is_the_connection_s_in_a_project_that_counts_no_proxies(
    settings: Settings,
) -> None:
    del settings.NINJA_NUM_PROXIES
    request = RequestFactory(REMOTE_ADDR="10.0.0.1").get("/", headers={"X-Forwarded-For": "::1"})
    assert client_address(request) == "10.0.0.1"


def test_generate__over_the_limit_is_429_and_renders_nothing(
    staff: User,
    superuser: User,
    make_asset: MakeAsset,
    clock: Clock,
    settings: Settings,
    queue_server: QueueServer,
    thumbnail_dir: Path,
) -> None:
    settings.THUMBNAIL_RENDERS_PER_MINUTE = 2
    asset = make_asset()
    path = f"/images/{asset.pk}/thumbnail/generate"
    api = Caller(staff)
    for _ in range(2):
        assert api.post(path).status_code == HTTPStatus.OK
    file = thumbnail_dir / asset.thumbnail_name
    before = file.stat().st_ino
    response = Caller(staff).post(path)  # another token of the same user's
    body = problem_of(response, HTTPStatus.TOO_MANY_REQUESTS)
    assert response["Retry-After"] == "50"
    assert body["retryAfterSeconds"] == 50
    assert body["detail"] == "Too many requests: try again in 50 seconds."
    assert file.stat().st_ino == before
    assert api.get("/images").status_code == HTTPStatus.OK
    assert Caller(superuser).post(path).status_code == HTTPStatus.OK
    clock.seconds += 50
    assert api.post(path).status_code == HTTPStatus.OK


def test_throttle__gives_back_to_the_window_that_it_counted_in(
    clock: Clock, queue_server: QueueServer
) -> None:
    throttle = Throttle(name="test", seconds=60)
    receipt = throttle.count("caller", at_most=1)
    clock.seconds += 50
    throttle.count("caller", at_most=1)
    throttle.give_back(receipt)
    with pytest.raises(TooMany):
        throttle.count("caller", at_most=1)


def log_in(name: str, password: str, address: str = "10.0.0.1") -> Any:
    data = {"username": name, "password": password}
    return Client().post("/admin/login/?next=/admin/", data, REMOTE_ADDR=address)


def test_failed_logins__too_many_are_429_even_with_the_right_password(
    staff: User, superuser: User, clock: Clock, queue_server: QueueServer
) -> None:
    for _ in range(logins.FAILURES_OF_NAME):
        assert log_in("staff", "wrong").status_code == HTTPStatus.OK
    for name, password in (("staff", "wrong"), ("staff", "staff"), ("STAFF", "staff")):
        refused = log_in(name, password)
        assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert refused["Retry-After"] == "290"
        assert b"290 seconds" in refused.content
    assert Client().get("/admin/login/", REMOTE_ADDR="10.0.0.1").status_code == HTTPStatus.OK
    assert log_in("admin", "password").status_code == HTTPStatus.FOUND
    assert log_in("staff", "staff", "10.0.0.2").status_code == HTTPStatus.FOUND
    clock.seconds += 290
    assert log_in("staff", "staff").status_code == HTTPStatus.FOUND


@pytest.mark.parametrize(
    "name", ["Staff", " staff ", "\u3000staff", "\uff53\uff54\uff41\uff46\uff46", "\u017ftaff"]
)
def test_failed_logins__another_spelling_of_a_name_counts_for_the_name(
    name: str, staff: User, clock: Clock, queue_server: QueueServer
) -> None:
    for tried in ["staff", *[name] * (logins.FAILURES_OF_NAME - 1)]:
        assert log_in(tried, "wrong").status_code == HTTPStatus.OK
    for tried in ("staff", name):
        assert log_in(tried, "staff").status_code == HTTPStatus.TOO_MANY_REQUESTS


def test_failed_logins__successful_ones_do_not_count(
    staff: User, clock: Clock, queue_server: QueueServer
) -> None:
    for _ in range(logins.FAILURES_OF_ADDRESS + 1):
        assert log_in("staff", "staff").status_code == HTTPStatus.FOUND
    for _ in range(logins.FAILURES_OF_NAME - 1):
        assert log_in("staff", "wrong").status_code == HTTPStatus.OK
    assert log_in("staff", "staff").status_code == HTTPStatus.FOUND
    assert log_in("staff", "wrong").status_code == HTTPStatus.OK
    assert log_in("staff", "staff").status_code == HTTPStatus.TOO_MANY_REQUESTS


def test_failed_logins__a_right_password_without_access_to_the_admin_counts(
    clock: Clock, queue_server: QueueServer
) -> None:
    User.objects.create_user("visitor", password="visitor")
    for _ in range(logins.FAILURES_OF_NAME):
        assert log_in("visitor", "visitor").status_code == HTTPStatus.OK
    assert log_in("visitor", "visitor").status_code == HTTPStatus.TOO_MANY_REQUESTS


class HeldHasher(MD5PasswordHasher):
    """Records the password checks, and lets none of them end before the test says so."""

    checked: ClassVar[list[str]]
    result: ClassVar[threading.Semaphore]
    may_end: ClassVar[threading.Event]

    def verify(self, password: str, encoded: str) -> bool:
        self.checked.append(password)
        self.result.release()
        assert self.may_end.wait(PATIENCE_SECONDS)
        return super().verify(password, encoded)


@pytest.mark.django_db(transaction=True)
def test_failed_logins__at_once_get_no_more_password_checks_than_one_after_another(
    live_server: LiveServer,
    staff: User,
    settings: Settings,
    clock: Clock,
    queue_server: QueueServer,
) -> None:
    tries = 16
    settings.PASSWORD_HASHERS = [f"{__name__}.HeldHasher"]
    HeldHasher.checked, HeldHasher.may_end = [], threading.Event()
    # Released for each request that is in the password check or has its answer.
    HeldHasher.result = result = threading.Semaphore(0)

    def log_in_over_http() -> int:
        data = {"username": "staff", "password": "wrong", "csrfmiddlewaretoken": "c" * 32}
        request = urllib.request.Request(  # noqa: S310  the test's own server
            f"{live_server.url}/admin/login/",
            urllib.parse.urlencode(data).encode(),
            headers={"Cookie": f"csrftoken={'c' * 32}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        finally:
            result.release()

    with ThreadPoolExecutor(tries) as pool:
        answers = [pool.submit(log_in_over_http) for _ in range(tries)]
        try:
            for _ in range(tries):
                assert result.acquire(timeout=PATIENCE_SECONDS)
        finally:
            HeldHasher.may_end.set()
    assert len(HeldHasher.checked) == logins.FAILURES_OF_NAME
    assert Counter(answer.result() for answer in answers) == {
        HTTPStatus.OK: logins.FAILURES_OF_NAME,
        HTTPStatus.TOO_MANY_REQUESTS: tries - logins.FAILURES_OF_NAME,
    }


def test_failed_logins__of_many_names_count_for_the_address(
    staff: User, clock: Clock, queue_server: QueueServer
) -> None:
    for number in range(logins.FAILURES_OF_ADDRESS):
        assert log_in(f"name-{number}", "wrong").status_code == HTTPStatus.OK
    assert log_in("staff", "staff").status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert log_in("staff", "staff", "10.0.0.2").status_code == HTTPStatus.FOUND


def test_limits__with_the_cache_away_nobody_is_locked_out_and_nothing_breaks(
    staff: User,
    make_asset: MakeAsset,
    settings: Settings,
    clock: Clock,
    queue_server: QueueServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue_server.kill()
    settings.THUMBNAIL_RENDERS_PER_MINUTE = 1
    for _ in range(auth.FAILURES_AT_MOST + 2):
        assert try_token().status_code == HTTPStatus.UNAUTHORIZED
    path = f"/images/{make_asset().pk}/thumbnail/generate"
    for _ in range(3):
        assert Caller(staff).post(path).status_code == HTTPStatus.OK
    for _ in range(logins.FAILURES_OF_NAME + 2):
        assert log_in("staff", "wrong").status_code == HTTPStatus.OK
    assert log_in("staff", "staff").status_code == HTTPStatus.FOUND
    assert "Nothing is throttled" in caplog.text

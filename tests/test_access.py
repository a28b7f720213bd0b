"""Who may open which page: every URL of the site against every kind of user.

A page without a row here fails a test: each new page has to say who may open it.
What the API answers to wrong credentials stands in `test_api_access.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django import Settings

from tests.conftest import MakeAsset
from tests.servers import QueueServer
from thumbnails.models import ApiToken, ImageAsset, Run
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.runs import control, starting

pytestmark = pytest.mark.django_db

# --- The rules ------------------------------------------------------------------------------------

Needs = tuple[frozenset[str], ...]
"""Sets of permissions, each of which is enough for staff. The superuser has all permissions."""
LOGIN = "/admin/login/"


def needs(*sets: str) -> Needs:
    """Each text is one set: names of permissions with spaces between them."""
    return tuple(frozenset(names.split()) for names in sets)


ANY_STAFF = needs("")
NO_USER = needs()


@dataclass(frozen=True, kw_only=True)
class Page:
    """Who may open a page, and what others are answered: the others by GET and by POST."""

    needs: Needs | None
    """None: the page is public."""
    method: str = "GET"
    good: tuple[int, ...] = (200,)
    outsiders: int | str = LOGIN
    """Those who are not staff: a status, or where they are redirected to."""
    staff: int = 403
    """Staff without the permissions."""
    query: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    """For the parameters of its address, besides those of `Site`."""

    @property
    def is_api(self) -> bool:
        return self.outsiders == 401


def public(*good: int, **values: object) -> list[Page]:
    return [Page(needs=None, good=good or (200,), values=values)]


def page(*sets: str, **how: Any) -> list[Page]:
    return [Page(needs=needs(*sets), **how)]


def operation(*sets: str, method: str = "GET", good: int = 200, **values: object) -> list[Page]:
    """Of the API."""
    return [Page(needs=needs(*sets), method=method, good=(good,), outsiders=401, values=values)]


def pages_of(model: str, **other: list[Page]) -> dict[str, list[Page]]:
    """The pages that Django's admin makes for a model, by Django's own rules but for `other`."""
    app, name = model.split(".")
    looks = (f"{app}.view_{name}", f"{app}.change_{name}")
    own = {
        "changelist": page(*looks),
        "add": page(f"{app}.add_{name}"),
        "change": page(*looks),
        "history": page(*looks),
        "delete": page(f"{app}.delete_{name}"),
        **other,
    }
    kept = {f"admin:{app}_{name}_{key}": pages for key, pages in own.items() if pages}
    redirect = [Page(needs=ANY_STAFF, good=(302,))]  # to the page "change"
    return {**kept, f"admin/{app}/{name}/<path:object_id>/": redirect}


REGENERATE, PURGE = "thumbnails.regenerate_thumbnails", "thumbnails.purge_thumbnails"
VIEW_IMAGES, CHANGE_IMAGES = "thumbnails.view_imageasset", "thumbnails.change_imageasset"
LOOK_AT_RUNS = ("thumbnails.view_run", "thumbnails.change_run", REGENERATE, PURGE)
API_RUNS = ("thumbnails.view_run", REGENERATE, PURGE)
IN_THE_APP = [
    f"thumbnails.{verb}_{model}"
    for model in ("imageasset", "trainingsession", "apitoken", "run")
    for verb in ("view", "add", "change", "delete")
    if (verb, model) != ("add", "run")  # runs are started, not added
]
"""Any of these shows the app on the admin's index."""


def button(permission: str, **how: Any) -> list[Page]:
    """On the page of an image."""
    both = [f"{permission} {looks}" for looks in (VIEW_IMAGES, CHANGE_IMAGES)]
    return page(*both, **how)


def verb(name: str) -> list[Page]:
    """An operation on a run, which needs the permission of the run's kind."""
    of_kind = {Run.Kind.REGENERATE: REGENERATE, Run.Kind.PURGE: PURGE}
    if name == "retry":  # a purge has no retry
        of_kind.pop(Run.Kind.PURGE)
    return [
        row
        for kind, permission in of_kind.items()
        for row in operation(permission, method="POST", good=202, id=(name, kind))
    ]


TABLE: dict[str, list[Page]] = {
    # --- the public's ------------------------------------------------------------------------
    "thumbnails_gallery:gallery": public(),
    "thumbnails_gallery:image": public(),
    "thumbnails:thumbnail": public(),
    "thumbnails:variant": public(404, suffix="@2x.webp"),  # none is configured
    # --- the API -----------------------------------------------------------------------------
    "thumbnails_api:openapi-json": public(),
    "thumbnails_api:openapi-view": public(),
    "thumbnails_api:api-root": public(404),
    "api/v1/": public(404),  # all that there is not
    "thumbnails_api:healthz": public(),
    "thumbnails_api:readyz": public(),
    "thumbnails_api:image-thumbnail": public(id="asset"),
    "thumbnails_api:image": operation(VIEW_IMAGES, id="asset"),
    "thumbnails_api:images": operation(VIEW_IMAGES),
    "thumbnails_api:show_statistics": operation(VIEW_IMAGES),
    "thumbnails_api:generate": operation(REGENERATE, method="POST", id="asset"),
    "thumbnails_api:regenerate_session": operation(
        REGENERATE, method="POST", good=202, id="session"
    ),
    "thumbnails_api:regenerate": operation(REGENERATE, method="POST", good=202),
    "thumbnails_api:purge": operation(PURGE, method="POST", good=202),
    "thumbnails_api:runs": operation(*API_RUNS),
    "thumbnails_api:run": operation(*API_RUNS, id="run"),
    "thumbnails_api:report": operation(*API_RUNS, id="run"),
    "thumbnails_api:cancel": verb("cancel"),
    "thumbnails_api:resume": verb("resume"),
    "thumbnails_api:retry": verb("retry"),
    # --- the admin ---------------------------------------------------------------------------
    "admin:index": [Page(needs=ANY_STAFF)],
    "admin:login": public(200, 302),
    "admin:logout": [Page(needs=ANY_STAFF, method="POST", outsiders="/admin/")],
    "admin:password_change": [Page(needs=ANY_STAFF)],
    "admin/password_change/": [Page(needs=ANY_STAFF)],
    "admin:password_change_done": [Page(needs=ANY_STAFF)],
    "admin:jsi18n": [Page(needs=ANY_STAFF)],
    "admin:autocomplete": page(  # for every relation to a model that can be searched
        *(f"thumbnails.{looks}_trainingsession" for looks in ("view", "change")),
        query="app_label=thumbnails&model_name=imageasset&field_name=sessions",
    ),
    "admin/r/<path:object>/": [Page(needs=ANY_STAFF, good=(404,), values={"object": "1/1"})],
    "admin:view_on_site": [Page(needs=ANY_STAFF, good=(404,))],  # no model has such a page
    "admin/(?P<url>.*)$": [Page(needs=ANY_STAFF, good=(404,), values={"url": "nothing/"})],
    "admin:app_list": page(
        *IN_THE_APP, REGENERATE, PURGE, staff=404, values={"app_label": "thumbnails"}
    ),
    **pages_of("thumbnails.imageasset"),
    "admin:thumbnails_imageasset_plan": [
        *page(REGENERATE, values={"kind": "regenerate"}),
        *page(PURGE, values={"kind": "purge"}),
    ],
    "admin:thumbnails_imageasset_regenerate": button(REGENERATE, method="POST", good=(302,)),
    "admin:thumbnails_imageasset_accept": button(REGENERATE, method="POST", good=(302,)),
    "admin:thumbnails_imageasset_undo": button(REGENERATE, method="POST", good=(302,)),
    "admin:thumbnails_imageasset_purge": button(PURGE),
    "admin:thumbnails_imageasset_original": page(CHANGE_IMAGES),
    "admin:thumbnails_imageasset_as_it_is": page(VIEW_IMAGES, CHANGE_IMAGES),
    "admin:thumbnails_imageasset_alike": page(VIEW_IMAGES, CHANGE_IMAGES),
    "admin:thumbnails_imageasset_alike_chosen": page(VIEW_IMAGES, CHANGE_IMAGES),
    **pages_of("thumbnails.trainingsession"),
    "admin:thumbnails_cache_changelist": page(VIEW_IMAGES, CHANGE_IMAGES, REGENERATE, PURGE),
    **pages_of(
        "thumbnails.run",
        changelist=page(*LOOK_AT_RUNS),
        change=page(*LOOK_AT_RUNS),
        history=page(*LOOK_AT_RUNS),
        add=[Page(needs=NO_USER)],
    ),
    "admin:thumbnails_run_progress": page(*LOOK_AT_RUNS),
    "admin:thumbnails_run_report": page(*LOOK_AT_RUNS),
    "admin:thumbnails_run_csv": page(*LOOK_AT_RUNS),
    "admin:thumbnails_run_json": page(*LOOK_AT_RUNS),
    "admin:thumbnails_run_act": page(REGENERATE, method="POST", good=(302,)),
    **pages_of("thumbnails.apitoken"),
    # Django asks for both: a new user could otherwise have more rights than the one who adds it.
    **pages_of("auth.user", add=page("auth.add_user auth.change_user")),
    "admin:auth_user_password_change": page("auth.change_user"),
    **pages_of("auth.group"),
}
QUEUE_PAGES = "django_rq:"
QUEUE_PAGE = Page(needs=needs("django_rq.admin"), good=(200, 302, 404, 405, 500))
"""All of django-rq's; what they answer to those whom they let in is its own matter: there is no
such job."""


def rows_of(key: str) -> list[Page]:
    return [QUEUE_PAGE] if key.startswith(QUEUE_PAGES) else TABLE.get(key, [])


# --- The site's pages -----------------------------------------------------------------------------


def pages_in(
    patterns: Sequence[URLPattern | URLResolver], route: str = "", namespace: str = ""
) -> Iterator[tuple[str, str]]:
    """Key and route of each: the key is its name, and of those without one the route."""
    for pattern in patterns:
        here = route + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from pages_in(pattern.url_patterns, here, inner)
        else:
            yield (f"{namespace}{pattern.name}" if pattern.name else here), here


PAGES = sorted({*pages_in(get_resolver("thumbsite.urls").url_patterns)})


def part_of(key: str) -> str:
    """The part of the site that the page belongs to: its pages are tested on one site."""
    return key.partition("_")[0]


def test_rules__there_is_one_for_every_page_and_none_for_another() -> None:
    keys = {key for key, _ in PAGES}
    assert {key for key in keys if not rows_of(key)} == set()
    assert set(TABLE) - keys == set()


def test_rules__a_new_page_without_one_is_noticed() -> None:
    patterns = get_resolver("thumbsite.urls").url_patterns
    new = URLPattern(patterns[1].pattern, lambda _: None, name="new")
    assert [key for key, _ in pages_in([new]) if not rows_of(key)] == ["new"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What there is to be opened."""

    asset: ImageAsset
    session: Any
    group: Group
    visitor: User
    runs: dict[Run.Kind, Run]

    def address(self, route: str, row: Page, user: User | None) -> str:
        """The page's address, where it has something to show to this user."""

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return str(self._value(row.values.get(name, name), route, user))

        path = re.sub(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)\??", value, route)
        return "/" + re.sub(r"\^|/\?|\$", "", path) + (f"?{row.query}" if row.query else "")

    def _value(self, what: object, route: str, user: User | None) -> object:
        if isinstance(what, tuple):
            verb, kind = what
            return self._run_for(verb, self.runs[kind]).pk
        if what in ("object_id", "id"):
            return self._row_of(route, user)
        known = {
            "asset": self.asset.pk,
            "asset_id": self.asset.pk,
            "shard": self.asset.thumbnail_name.partition("/")[0],
            "session": self.session.pk,
            "run": self.runs[Run.Kind.REGENERATE].pk,
            "run_id": self.runs[Run.Kind.REGENERATE].pk,
            "verb": "cancel",
            **dict.fromkeys(("queue_index", "scheduler_index", "connection_index"), 0),
        }
        return known.get(str(what), what)

    def _run_for(self, verb: str, run: Run) -> Run:
        """In a state in which that can be done."""
        if verb == "resume":
            control.cancel(run)
        elif verb == "retry":
            run.chunks.update(failures={"unreadable": [self.asset.pk]}, failed=1)
        return run

    def _row_of(self, route: str, user: User | None) -> object:
        if "/apitoken/" in route:  # one sees only one's own
            token, _ = ApiToken.objects.issue(user or self.visitor, "tests")
            return token.pk
        rows = {
            "imageasset": self.asset,
            "trainingsession": self.session,
            "run": self.runs[Run.Kind.REGENERATE],
            "user": self.visitor,
            "group": self.group,
        }
        names = route.split("/")
        if "run" in names and "delete" in names:  # only one that is over can be
            Run.objects.filter(pk=rows["run"].pk).update(state=Run.State.CANCELLED)
        return next((row.pk for name, row in rows.items() if name in names), "nothing")


@pytest.fixture(autouse=True)
def sessions_without_rows(settings: Settings) -> None:
    """There are hundreds of logins here."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"


@pytest.fixture
def site(make_asset: MakeAsset, queue_server: QueueServer) -> Site:
    asset = make_asset(session="Sea")
    serving.serve(asset)
    asset.refresh_from_db()
    return Site(
        asset=asset,
        session=asset.sessions.get(),
        group=Group.objects.create(name="Editors"),
        visitor=User.objects.create_user("visitor", email="visitor@example.org"),
        runs={
            kind: starting.start(
                kind,
                ImageAsset.objects.all(),
                scope={"name": "of another request"},
                scope_text="others",
                origin=Run.Origin.COMMAND,
                leased=True,
            )
            for kind in Run.Kind
        },
    )


# --- Users ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Who:
    """One kind of user."""

    name: str
    permissions: frozenset[str] = frozenset()
    is_staff: bool = True
    is_known: bool = True

    def may(self, row: Page) -> bool:
        if row.needs is None:
            return True
        return self.is_staff and any(each <= self.permissions for each in row.needs)

    def refusal(self, row: Page) -> tuple[int | str, ...]:
        """What may be answered to those who may not."""
        if row.is_api:
            return (403 if self.is_known else 401,)
        if row is QUEUE_PAGE and self.is_known and not self.is_staff:
            return (LOGIN, 401)  # the page itself asks for staff
        return (row.staff if self.is_staff else row.outsiders,)


def kinds_of_users(row: Page) -> Iterator[Who]:
    """The kinds of users, those with just what the page needs, and one with all else."""
    labels = Permission.objects.values_list("content_type__app_label", "codename")
    every = frozenset(f"{app}.{name}" for app, name in labels)
    of_app = frozenset(name for name in every if name.startswith("thumbnails."))
    yield Who(name="anonymous", is_staff=False, is_known=False)
    yield Who(name="user with every permission", is_staff=False, permissions=every)
    yield Who(name="staff without permission")
    views = frozenset(name for name in every if ".view_" in name)
    yield Who(name="staff who only view", permissions=views)
    yield Who(name="staff who work", permissions=of_app)
    yield Who(name="superuser", permissions=every)
    for number, enough in enumerate(row.needs or ()):
        yield Who(name=f"staff with just enough {number}", permissions=enough)
    needed = frozenset().union(*(row.needs or ()))
    yield Who(name="staff with all else", permissions=every - needed)


def made(who: Who) -> User | None:
    if not who.is_known:
        return None
    is_superuser = who.name == "superuser"
    user = User.objects.create_user(who.name, is_staff=who.is_staff, is_superuser=is_superuser)
    if not is_superuser:
        names = [name.partition(".")[2] for name in who.permissions]
        found = Permission.objects.filter(codename__in=names).select_related("content_type")
        user.user_permissions.set(
            each
            for each in found
            if f"{each.content_type.app_label}.{each.codename}" in who.permissions
        )
    return user


def clients_of(row: Page, user: User | None) -> Iterator[Client]:
    """By session; and by token, where that is a way in."""
    client = Client(raise_request_exception=False)
    if user is not None:
        client.force_login(user)
    yield client
    if user is not None and row.is_api:
        _, secret = ApiToken.objects.issue(user, "tests")
        yield Client(headers={"Authorization": f"Bearer {secret}"})


def answer(client: Client, method: str, address: str, row: Page) -> int | str:
    """The status, or where outsiders are redirected to."""
    body = b'{"all": true}' if address.endswith("/purge") else b""
    with transaction.atomic():
        response: Any = client.generic(method, address, body, "application/json")
        b"".join(response)  # which closes a file that is sent
        transaction.set_rollback(True)
    if response.status_code == 302:
        goes_to = urlsplit(response["Location"]).path
        if goes_to in (LOGIN, row.outsiders):
            return str(goes_to)
    return int(response.status_code)


def expected_of(who: Who, row: Page) -> dict[str, tuple[int | str, ...]]:
    """The answers that are right, by the method to ask with."""
    if who.may(row):
        return {row.method: row.good}
    refusal = who.refusal(row)
    if row.is_api:
        return {row.method: refusal}
    # The other method too; some pages refuse it to everyone.
    return {"GET": (*refusal, 405), "POST": (*refusal, 405), row.method: refusal}


@pytest.mark.parametrize("part", sorted({part_of(key) for key, _ in PAGES}))
def test_pages__are_for_those_whom_their_rules_name(site: Site, part: str) -> None:
    wrong = {}
    for key, route in PAGES:
        for row in rows_of(key) if part_of(key) == part else ():
            for who in kinds_of_users(row):
                for method, address, got, expected in answers_to(who, row, site, route):
                    if got not in expected:
                        wrong[who.name, method, address] = (got, expected)
    assert wrong == {}


def answers_to(
    who: Who, row: Page, site: Site, route: str
) -> Iterator[tuple[str, str, int | str, tuple[int | str, ...]]]:
    """Yields each method and address, with what is answered and what may be."""
    with transaction.atomic():
        user = made(who)
        address = site.address(route, row, user)
        for client in clients_of(row, user):
            for method, expected in expected_of(who, row).items():
                yield method, address, answer(client, method, address, row), expected
        transaction.set_rollback(True)

"""The admin's lists take what their own links and forms send, and refuse all else at once."""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.conftest import MakeAsset
from thumbnails.models import ApiToken, ImageAsset, Run, TrainingSession

pytestmark = pytest.mark.django_db

LISTS = [ImageAsset, TrainingSession, Run, ApiToken, User, Group]
MANY_DIGITS = "9" * 5_000
"""More than Python turns into a number."""


def address_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def text_of(response: Any) -> str:
    return str(response.content.decode())


@pytest.fixture
def viewer(client: Client) -> Client:
    """Staff who may look at everything and change nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


@pytest.fixture
def rows(viewer: Client, staff: User, make_asset: MakeAsset) -> None:
    """In every list, what its filters tell apart."""
    make_asset(session="Sea")
    group = Group.objects.create(name="Editors")
    staff.groups.add(group)
    for kind in Run.Kind:
        Run.objects.create(kind=kind, state=Run.State.DONE, origin=Run.Origin.API)
    User.objects.create_superuser("boss")
    ApiToken.objects.issue(User.objects.get(username="viewer"), "tests")


def test_lists__are_all_that_the_admin_has() -> None:
    """One of another model is tested here as soon as there is one."""
    registered = {model for model in LISTS if admin.site.is_registered(model)}
    index = {model for model, _ in admin.site._registry.items()}  # noqa: SLF001  has no other way
    assert index - registered == {m for m in index if m.__name__ == "Cache"}


# --- lookups --------------------------------------------------------------------------------------


OWN_TERMS = {
    *("format", "mode", "orientation"),
    *("camera", "software", "compression", "frames", "note"),
}
"""Columns whose names are those of the list's own filters."""


def lookups_of(model: type[Model]) -> list[str]:
    """Some for each column, its own and those of what it leads to."""
    columns = [field.name for field in model._meta.concrete_fields]
    columns += [
        f"{field.name}__{column.name}"
        for field in model._meta.concrete_fields
        if field.related_model
        for column in field.related_model._meta.concrete_fields
    ]
    kinds = ("", "__regex", "__startswith")
    return ["pk", "pk__gt", "pk__in", *(f"{column}{kind}" for column in columns for kind in kinds)]


@pytest.mark.parametrize("model", LISTS)
def test_lookup__that_no_filter_offers_is_refused(
    viewer: Client, rows: None, model: type[Model]
) -> None:
    """A regular expression can keep the database busy, and a password's hash is told by its
    beginnings."""
    address = address_of(model)
    taken = {}
    for lookup in lookups_of(model):
        response = viewer.get(address, {lookup: "1"})
        if response.status_code != HTTPStatus.BAD_REQUEST:
            taken[lookup] = response.status_code
    assert taken.keys() == (OWN_TERMS if model is ImageAsset else set())


@pytest.mark.parametrize("model", LISTS)
def test_links__of_each_list_work(viewer: Client, rows: None, model: type[Model]) -> None:
    """Those of its filters, its columns and its pages, also one after the other."""
    address = address_of(model)
    links = set(re.findall(r'href="(\?[^"]*)"', text_of(viewer.get(address))))
    assert len(links) >= 1
    for link in links:
        response = viewer.get(address + html.unescape(link))
        assert response.status_code == HTTPStatus.OK, link
        # And with a search beside it.
        both = viewer.get(f"{address}{html.unescape(link)}&q=a")
        assert both.status_code == HTTPStatus.OK, link


@pytest.mark.parametrize(
    ("model", "query", "number"),
    [
        (Run, "kind__exact=purge", 1),
        (Run, "state__exact=running", 0),
        (Run, "created_at__gte=2000-01-01+00:00:00%2B00:00", 2),
        (Run, "created_at__lt=2001-01-01+00:00:00%2B00:00", 0),
        (Run, "kind__exact=purge&state__exact=done", 1),
        (User, "is_superuser__exact=1", 1),
        (User, "q=staff", 1),
        (Group, "q=edit", 1),
        (TrainingSession, "q=sea", 1),
    ],
)
def test_filters__of_lists_narrow_them(
    viewer: Client, rows: None, model: type[Model], query: str, number: int
) -> None:
    page = text_of(viewer.get(f"{address_of(model)}?{query}"))
    assert len(re.findall(r'<th class="field-', page)) == number


# --- queries --------------------------------------------------------------------------------------


NO_QUERIES = {
    "a search of many words": "q=" + "+".join(["a"] * 1_500),
    "a search with a null character": "q=a%00",
    "a search of one long word": "q=" + "a" * 60_000,  # SQLite takes none of 50,000
    "a page with a null character": "p=%00",
    "a name with a null character": "%00=1",
    "an order by many columns": "o=" + ".".join(["1"] * 2_000),
    "many parameters": "&".join(f"a{number}=1" for number in range(1_200)),
    "a key with a null character": "_to_field=%00",
}


@pytest.mark.parametrize("model", LISTS)
def test_query__that_no_link_sends_is_refused_before_the_list_is_read(
    viewer: Client, model: type[Model]
) -> None:
    of_the_list = f'FROM "{model._meta.db_table}"'
    viewer.get("/admin/")  # Django remembers some things from the first request on
    with CaptureQueriesContext(connection) as before:
        viewer.get("/admin/password_change/")  # who asks
    for what, query in NO_QUERIES.items():
        with CaptureQueriesContext(connection) as asked:
            response = viewer.get(f"{address_of(model)}?{query}")
        assert response.status_code == HTTPStatus.BAD_REQUEST, what
        assert reads(asked, of_the_list) <= reads(before, of_the_list), what


def reads(asked: CaptureQueriesContext, table: str) -> int:
    return sum(table in query["sql"] for query in asked.captured_queries)


def test_autocomplete__searches_within_the_same_bounds(admin_client: Client) -> None:
    """Django serves it for every foreign key to a model that can be searched."""
    address = "/admin/autocomplete/?app_label=thumbnails&model_name=imageasset&field_name=sessions"
    assert admin_client.get(f"{address}&term=a").status_code == HTTPStatus.OK
    for term in ("+".join(["a"] * 1_500), "a%00", "a" * 60_000):
        response = admin_client.get(f"{address}&term={term}")
        assert response.status_code == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("model", "query"),
    [
        *((Run, f"{name}=%00") for name in ("kind__exact", "state__exact", "created_at__gte")),
        (User, "groups__id__exact=%00"),
        *((ImageAsset, f"{name}=a%00") for name in ("session", "recipe", "state", "shard")),
    ],
)
def test_filters__refuse_null_characters(viewer: Client, model: type[Model], query: str) -> None:
    response = viewer.get(f"{address_of(model)}?{query}")
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert "null character" in text_of(response)


@pytest.mark.parametrize("model", LISTS)
def test_page__that_is_none_shows_the_list_or_says_so(
    viewer: Client, rows: None, model: type[Model]
) -> None:
    for number in ("0", "-1", "x", "1.5", "9" * 300, MANY_DIGITS):
        response = viewer.get(f"{address_of(model)}?p={number}", follow=True)
        assert response.status_code == HTTPStatus.OK, number


@pytest.mark.parametrize(
    "query",
    [
        f"created_at__gte={MANY_DIGITS}",
        "created_at__gte=0001-01-01+00:00:00%2B14:00",
        "created_at__lt=9999-12-31+23:59:59-14:00",
        "created_at__isnull=x",
        f"created_at__gte={'9' * 30}",
    ],
)
def test_filters__of_runs_with_dates_that_are_none(viewer: Client, query: str) -> None:
    response = viewer.get(f"{address_of(Run)}?{query}", follow=True)
    assert response.status_code in (HTTPStatus.OK, HTTPStatus.BAD_REQUEST)


# --- actions --------------------------------------------------------------------------------------

NO_KEYS = [MANY_DIGITS, "9" * 30, "x", "", "1.5", "\0", "1\0"]


@pytest.mark.parametrize("model", LISTS)
def test_action__on_what_is_no_key_is_refused(admin_client: Client, model: type[Model]) -> None:
    number = model._default_manager.count()
    actions = ["delete_selected", *getattr(admin.site.get_model_admin(model), "actions", ())]
    for action in actions:
        for key in NO_KEYS:
            data = {"action": action, "_selected_action": [key], "post": "yes"}
            response = admin_client.post(address_of(model), data)
            assert response.status_code == HTTPStatus.BAD_REQUEST, (action, key)
            assert text_of(response) == "One of the selected rows has no valid key.\n"
    assert model._default_manager.count() == number


# --- single pages ---------------------------------------------------------------------------------


FURTHER_PAGES: dict[type[Model], tuple[str, ...]] = {
    ImageAsset: ("regenerate", "purge", "as-it-is", "original", "alike"),
    Run: ("report", "progress"),
}


@pytest.mark.parametrize("model", LISTS)
def test_pages__of_what_there_is_not(admin_client: Client, model: type[Model]) -> None:
    pages = ("change", "delete", "history", *FURTHER_PAGES.get(model, ()))
    for key in (MANY_DIGITS, "9" * 30, "%00", "1%00", "_00", "x", "-1"):
        for page in pages:
            response = admin_client.get(f"{address_of(model)}{key}/{page}/", follow=True)
            assert response.status_code in (200, 403, 404, 405), (key, page)


@pytest.mark.parametrize("model", [ImageAsset, TrainingSession, ApiToken, User, Group])
def test_add__takes_no_values_from_the_address(admin_client: Client, model: type[Model]) -> None:
    """Nothing links to it with some, and a date in it was an error."""
    names = [field.name for field in (*model._meta.concrete_fields, *model._meta.many_to_many)]
    query = dict.fromkeys(names, "planted")
    response = admin_client.get(address_of(model) + "add/", query)
    assert response.status_code == HTTPStatus.OK
    assert "planted" not in re.sub(r"<(a|form)[^>]*>", "", text_of(response))


@pytest.mark.parametrize("kind", Run.Kind.values)
@pytest.mark.parametrize(
    "query",
    [
        "name=" + "+".join(["a"] * 1_500),
        *(f"{name}=a%00" for name in ("name", "session", "ids", "recipe")),
        f"ids={MANY_DIGITS}",
        "ids=" + ",".join(f"{number}-{number}" for number in range(1, 5_000)),
        *(f"from-date={day}" for day in ("0001-01-01", "9999-12-31", "2024-W01-1")),
        f"megapixels={MANY_DIGITS}-",
        f"older-than={MANY_DIGITS}d",
    ],
    ids=lambda query: query[:16],
)
def test_plan__of_a_query_that_makes_no_sense_says_so(
    staff_client: Client, query: str, kind: str
) -> None:
    response = staff_client.get(f"/admin/thumbnails/imageasset/plan/{kind}/?{query}", follow=True)
    assert response.redirect_chain, "the plan was made"
    assert response.status_code == HTTPStatus.OK
    assert 'class="error"' in text_of(response)

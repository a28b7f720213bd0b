"""The staff's door: the list of assets, its filters and actions, and the page of a run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from tests import pictures
from tests.conftest import MakeAsset
from tests.servers import QueueServer
from thumbnails.models import ImageAsset, Run, State
from thumbnails.upkeep import freshness, runs

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/thumbnails/imageasset/"


def act(client: Client, action: str, *assets: ImageAsset, **data: Any) -> Any:
    """Tick these assets and run the action, following to where it leads."""
    query = data.pop("query", "")
    return client.post(
        LIST + query,
        {"action": action, "_selected_action": [asset.pk for asset in assets], **data},
        follow=True,
    )


def text_of(response: Any) -> str:
    return str(response.content.decode())


# --- the list -------------------------------------------------------------------------------------


def test_list__shows_thumbnail_state_and_size(staff_client: Client, make_asset: MakeAsset) -> None:
    fresh, broken = make_asset(name="fresh.jpg"), make_asset(pictures.truncated(), name="b.jpg")
    freshness.serve(fresh)
    with pytest.raises(freshness.NoThumbnail):
        freshness.serve(broken)
    fresh.refresh_from_db()
    page = text_of(staff_client.get(LIST))
    assert fresh.thumbnail_url in page
    assert "64 × 48" in page
    assert "Failed: unreadable" in page
    assert broken.thumbnail_url not in page


@pytest.mark.parametrize("state", list(State))
def test_list__filters_by_state(staff_client: Client, make_asset: MakeAsset, state: State) -> None:
    assets = {name: make_asset(name=f"{name}.jpg") for name in ("missing", "fresh", "stale")}
    assets["failed"] = make_asset(pictures.truncated(), name="failed.jpg")
    freshness.serve(assets["fresh"])
    freshness.serve(assets["stale"])
    ImageAsset.objects.filter(pk=assets["stale"].pk).update(thumbnail_recipe="old")
    with pytest.raises(freshness.NoThumbnail):
        freshness.serve(assets["failed"])
    page = text_of(staff_client.get(f"{LIST}?state={state}"))
    shown = set(re.findall(r">(\w+)\.jpg</a>", page))
    assert shown == {state.value}


def test_list__filters_by_session_and_date_and_searches_names(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    one = make_asset(name="boat.jpg", session="Sea")
    make_asset(name="tree.jpg")
    ImageAsset.objects.filter(pk=one.pk).update(created_at=datetime(2020, 5, 6, tzinfo=UTC))
    for query in (f"session__id__exact={one.session_id}", "created_at__year=2020", "q=boat"):
        page = text_of(staff_client.get(f"{LIST}?{query}"))
        assert "boat.jpg" in page
        assert "tree.jpg" not in page


def test_list__queries_do_not_grow_with_its_rows(
    staff_client: Client,
    make_asset: MakeAsset,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(20):
        make_asset(session="S")
    with django_assert_max_num_queries(9):
        staff_client.get(LIST)


# --- actions --------------------------------------------------------------------------------------


def test_regenerate__starts_a_run_over_the_ticked_and_links_to_it(
    staff_client: Client, staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    ticked, other = make_asset(), make_asset()
    page = text_of(act(staff_client, "regenerate_thumbnails", ticked))
    run = Run.objects.get()
    assert run.kind == Run.Kind.REGENERATE
    assert run.total == 1
    assert run.started_by == staff
    assert run.chunks.get().asset_ids == [ticked.pk]
    assert other.pk not in run.chunks.get().asset_ids
    assert f'<a href="/admin/thumbnails/run/{run.pk}/change/">Run {run.pk}</a> started' in page


def test_regenerate__all_that_match_the_filter(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    matching = [make_asset(session="A") for _ in range(3)]
    make_asset(session="B")
    query = f"?session__id__exact={matching[0].session_id}"
    act(staff_client, "regenerate_thumbnails", matching[0], select_across="1", query=query)
    run = Run.objects.get()
    assert run.total == 3
    assert "session__id__exact" in run.scope_text


def test_purge__asks_first_and_then_purges(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    asset = make_asset()
    question = text_of(act(staff_client, "purge_cache", asset))
    assert "Yes, purge them" in question
    assert "The thumbnails of 1 image" in question
    assert not Run.objects.exists()
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w*)">', question))
    fields.pop("csrfmiddlewaretoken", None)
    staff_client.post(LIST, fields, follow=True)
    run = Run.objects.get()
    assert run.kind == Run.Kind.PURGE
    assert run.chunks.get().asset_ids == [asset.pk]


def test_purge__of_all_that_match_keeps_meaning_them_through_the_question(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    assets = [make_asset(session="A") for _ in range(3)]
    make_asset()
    query = f"?session__id__exact={assets[0].session_id}"
    question = text_of(act(staff_client, "purge_cache", assets[0], select_across="1", query=query))
    assert "3 images" in question
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w*)">', question))
    staff_client.post(LIST + query, fields, follow=True)
    assert Run.objects.get().total == 3


@pytest.mark.parametrize(
    ("permission", "action"),
    [
        ("purge_thumbnails", "regenerate_thumbnails"),
        ("regenerate_thumbnails", "purge_cache"),
    ],
)
def test_actions__each_needs_its_own_permission(
    client: Client, make_asset: MakeAsset, permission: str, action: str
) -> None:
    asset = make_asset()
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_imageasset", permission])
    )
    client.force_login(user)
    assert f'value="{action}"' not in text_of(client.get(LIST))
    act(client, action, asset, confirmed="yes")
    assert not Run.objects.exists()


def test_actions__with_the_queue_down_the_run_is_saved_and_said_so(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    asset = make_asset()
    queue_server.kill()
    page = text_of(act(staff_client, "regenerate_thumbnails", asset))
    assert "is saved, but the queue cannot be reached" in page
    assert Run.objects.get().total == 1


def test_admin__is_not_for_the_public(client: Client) -> None:
    assert client.get(LIST).status_code == HTTPStatus.FOUND


# --- upload ---------------------------------------------------------------------------------------


def test_upload__is_recorded_by_its_header(staff_client: Client) -> None:
    upload = SimpleUploadedFile("new.jpg", pictures.jpeg(orientation=6))
    response = staff_client.post(reverse("admin:thumbnails_imageasset_add"), {"original": upload})
    assert response.status_code == HTTPStatus.FOUND, text_of(response)
    asset = ImageAsset.objects.get()
    assert (asset.format, asset.orientation) == ("JPEG", 6)
    assert asset.source_version
    assert staff_client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


@pytest.mark.parametrize("content", [b"", b"no picture at all", pictures.bomb()])
def test_upload__of_no_picture_is_refused_with_a_sentence(
    staff_client: Client, content: bytes
) -> None:
    upload = SimpleUploadedFile("new.jpg", content)
    response = staff_client.post(reverse("admin:thumbnails_imageasset_add"), {"original": upload})
    assert response.status_code == HTTPStatus.OK
    assert "errorlist" in text_of(response)
    assert not ImageAsset.objects.exists()


# --- runs -----------------------------------------------------------------------------------------


def test_run__page_shows_counts_and_failures(staff_client: Client, make_asset: MakeAsset) -> None:
    make_asset()
    broken = make_asset(pictures.truncated(), name="broken.jpg")
    run = runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        scope_text="all images",
        origin=Run.Origin.COMMAND,
        attended=True,
    )
    for chunk in run.chunks.all():
        runs.work_chunk(chunk.pk)
    page = text_of(staff_client.get(f"/admin/thumbnails/run/{run.pk}/change/"))
    assert "2 of 2 (100" in page
    assert 'data-over="yes"' in page
    assert "1 failed: unreadable" in page
    assert f"/admin/thumbnails/imageasset/{broken.pk}/change/" in page


def test_run__can_be_seen_by_all_who_may_start_one_and_edited_by_nobody(
    client: Client, make_asset: MakeAsset
) -> None:
    make_asset()
    run = runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        scope_text="all",
        origin=Run.Origin.COMMAND,
        attended=True,
    )
    url = f"/admin/thumbnails/run/{run.pk}/change/"
    user = User.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert client.get(url).status_code == HTTPStatus.FORBIDDEN
    user.user_permissions.set(Permission.objects.filter(codename="regenerate_thumbnails"))
    page = text_of(client.get(url))
    assert 'name="_save"' not in page
    assert client.post(url, {"state": "done"}).status_code == HTTPStatus.FORBIDDEN
    assert client.get("/admin/thumbnails/run/add/").status_code == HTTPStatus.FORBIDDEN
    assert client.get("/admin/thumbnails/run/").status_code == HTTPStatus.OK


def make_run(make_asset: MakeAsset, *, worked_on: bool) -> Run:
    make_asset()
    make_asset(pictures.truncated(), name="broken.jpg")
    run = runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        scope_text="all",
        origin=Run.Origin.COMMAND,
        attended=True,
    )
    if worked_on:
        for chunk in run.chunks.all():
            runs.work_chunk(chunk.pk)
        run.refresh_from_db()
    return run


def press(client: Client, run: Run, verb: str, **data: str) -> Any:
    return client.post(f"/admin/thumbnails/run/{run.pk}/act/{verb}/", data, follow=True)


def test_run__cancel_and_resume(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    run = make_run(make_asset, worked_on=False)
    page = text_of(press(staff_client, run, "cancel"))
    assert f"Run {run.pk} is cancelled" in page
    assert f"/admin/thumbnails/run/{run.pk}/act/resume/" in page
    assert f"/admin/thumbnails/run/{run.pk}/act/cancel/" not in page
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED
    press(staff_client, run, "resume")
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    assert not run.is_attended


def test_run__retry_is_over_just_what_failed(
    staff_client: Client, staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    run = make_run(make_asset, worked_on=True)
    page = text_of(press(staff_client, run, "retry", reason="unreadable"))
    new = Run.objects.first()
    assert new is not None
    assert new != run
    assert (new.total, new.started_by, new.origin) == (1, staff, Run.Origin.ADMIN)
    assert "what failed as unreadable" in page
    assert "Nothing failed as too large" in text_of(
        press(staff_client, run, "retry", reason="too_large")
    )
    assert "There is no reason" in text_of(press(staff_client, run, "retry", reason="x"))


def test_run__illegal_acts_are_told_and_change_nothing(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    run = make_run(make_asset, worked_on=True)
    assert "is done and cannot be cancelled" in text_of(press(staff_client, run, "cancel"))
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert press(staff_client, run, "explode").status_code == HTTPStatus.NOT_FOUND
    get = staff_client.get(f"/admin/thumbnails/run/{run.pk}/act/cancel/")
    assert get.status_code == HTTPStatus.METHOD_NOT_ALLOWED


def test_run__acts_need_the_permission_of_its_kind(client: Client, make_asset: MakeAsset) -> None:
    run = make_run(make_asset, worked_on=False)
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_run", "purge_thumbnails"])
    )
    client.force_login(user)
    assert press(client, run, "cancel").status_code == HTTPStatus.FORBIDDEN
    assert "/act/cancel/" not in text_of(client.get(f"/admin/thumbnails/run/{run.pk}/change/"))
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING

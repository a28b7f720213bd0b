"""The admin: the list of assets, its filters and actions, and the page of a run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NoReturn

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import start_here, work
from tests.servers import QueueServer
from thumbnails.admin import filters
from thumbnails.exceptions import Busy, NoThumbnail, StorageFailure
from thumbnails.models import ImageAsset, Run, State, TrainingSession
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.images.acceptance import accept_failures
from thumbnails.upkeep.runs import control

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/thumbnails/imageasset/"


def text_of(response: Any) -> str:
    return str(response.content.decode())


# --- the list -------------------------------------------------------------------------------------


def test_list__shows_thumbnail_state_and_size(staff_client: Client, make_asset: MakeAsset) -> None:
    fresh, broken = make_asset(name="fresh.jpg"), make_asset(pictures.truncated(), name="b.jpg")
    missing = make_asset(name="far/away/missing.jpg")
    serving.serve(fresh)
    with pytest.raises(NoThumbnail):
        serving.serve(broken)
    fresh.refresh_from_db()
    page = text_of(staff_client.get(LIST))
    assert fresh.thumbnail_url in page
    assert "64\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}48" in page
    assert '>missing.jpg<span class="folder">far/away/</span></a>' in page
    assert missing.thumbnail_url not in page  # loading it would render it
    assert "Failed: unreadable" in page
    assert broken.thumbnail_url not in page


@pytest.mark.parametrize("state", list(State))
def test_list__filters_by_state(staff_client: Client, make_asset: MakeAsset, state: State) -> None:
    assets = {name: make_asset(name=f"{name}.jpg") for name in ("missing", "fresh", "stale")}
    assets["failed"] = make_asset(pictures.truncated(), name="failed.jpg")
    serving.serve(assets["fresh"])
    serving.serve(assets["stale"])
    ImageAsset.objects.filter(pk=assets["stale"].pk).update(thumbnail_recipe="old")
    assets["accepted"] = make_asset(pictures.truncated(), name="accepted.jpg")
    for name in ("failed", "accepted"):
        with pytest.raises(NoThumbnail):
            serving.serve(assets[name])
    accept_failures(ImageAsset.objects.filter(pk=assets["accepted"].pk))
    page = text_of(staff_client.get(f"{LIST}?state={state}"))
    shown = set(re.findall(r">(\w+)\.jpg</a>", page))
    assert shown == {state.value}


def test_list__filters_by_session_and_date_and_searches_names(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    one = make_asset(name="boat.jpg", session="Sea")
    make_asset(name="tree.jpg")
    ImageAsset.objects.filter(pk=one.pk).update(created_at=datetime(2020, 5, 6, tzinfo=UTC))
    for query in ("session=Sea", "to-date=2020-05-06", "q=boat"):
        page = text_of(staff_client.get(f"{LIST}?{query}"))
        assert "boat.jpg" in page
        assert "tree.jpg" not in page


def test_list__offers_the_most_frequent_values_of_each_fact(
    staff_client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "FACTS_SHOWN", 2)
    for number, camera in enumerate("AABBBC"):
        make_asset(name=f"{camera}{number}.jpg")
        ImageAsset.objects.filter(original=f"{camera}{number}.jpg").update(camera=camera)
    make_asset(name="D0.jpg")
    page = text_of(staff_client.get(LIST))
    assert re.findall(r'href="\?camera=(\w+)"', page) == ["B", "A", "none"]
    # All have the same compression, and none has a note.
    assert "?compression=" not in page
    assert "?note=" not in page
    page = text_of(staff_client.get(f"{LIST}?camera=C&compression=baseline"))
    assert re.findall(r">(\w+)\.jpg</a>", page) == ["C5"]
    page = text_of(staff_client.get(f"{LIST}?camera=none"))
    assert re.findall(r">(\w+)\.jpg</a>", page) == ["D0"]


@pytest.mark.parametrize("name", ["reason", "format", "note"])
def test_list__takes_no_filter_of_a_wrong_value_that_offers_nothing(
    staff_client: Client, name: str
) -> None:
    assert staff_client.get(f"{LIST}?{name}=x").status_code == HTTPStatus.FOUND


def test_list__tells_sessions_of_a_name_apart_and_shows_each_image_once(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    shared, own = make_asset(name="boat.jpg", session="Sea"), make_asset(name="fish.jpg")
    first = shared.sessions.get()
    assert "Sea (#" not in text_of(staff_client.get(f"{LIST}?session=Sea"))
    other = TrainingSession.objects.create(name="Sea")
    shared.set_sessions([first, other])
    own.set_sessions([other])
    page = text_of(staff_client.get(f"{LIST}?session=Sea"))
    assert f"Sea (#{first.pk}), Sea (#{other.pk})" in page
    assert "2 image assets" in page
    assert page.count(">boat.jpg</a>") == 1
    assert f'href="?session=Sea&amp;session-id={other.pk}"' in page
    page = text_of(staff_client.get(f"{LIST}?session-id={first.pk}"))
    assert ">boat.jpg</a>" in page
    assert "fish.jpg" not in page


def test_session__shows_its_images_and_how_many(
    staff_client: Client, client: Client, make_asset: MakeAsset
) -> None:
    fresh, missing = (make_asset(session="Sea") for _ in range(2))
    serving.serve(fresh)
    other = make_asset(session="Land")
    session = fresh.sessions.get()
    sessions = "/admin/thumbnails/trainingsession/"
    assert re.findall(r'field-images">(\d+)<', text_of(staff_client.get(sessions))) == ["1", "2"]
    page = text_of(staff_client.get(f"{sessions}{session.pk}/change/"))
    assert f'<a href="{LIST}?session=Sea">2 images</a>: ' in page
    missing_link = f'<a href="{LIST}?session=Sea&amp;state=missing">1 missing</a>'
    fresh_link = f'<a href="{LIST}?session=Sea&amp;state=fresh">1 fresh</a>'
    assert f"2 images</a>: {missing_link}, {fresh_link}" in page
    assert fresh.thumbnail_url in page
    assert missing.thumbnail_url not in page
    assert f"{LIST}{other.pk}/" not in page
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_trainingsession"))
    client.force_login(user)
    assert "2 images" not in text_of(client.get(f"{sessions}{session.pk}/change/"))


def test_deleting_a_session__names_no_images_and_keeps_them(
    admin_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset(name="boat.jpg", session="Sea")
    address = reverse("admin:thumbnails_trainingsession_delete", args=[asset.session_ids[0]])
    page = text_of(admin_client.get(address))
    assert "images in them, which stay: 1" in page.replace("Images", "images")
    assert "boat.jpg" not in page
    assert f"image {asset.pk}" not in page
    admin_client.post(address, {"post": "yes"})
    assert not TrainingSession.objects.exists()
    assert ImageAsset.objects.get().session_ids == []


def test_list__shows_what_is_stale_as_it_is_and_mends_nothing(
    staff_client: Client, client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset()
    serving.serve(asset)
    old = b"what an older renderer made"
    cache.write(asset.thumbnail_name, old)
    ImageAsset.objects.update(thumbnail_recipe="0ld")
    asset.refresh_from_db()
    address = f"{LIST}{asset.pk}/as-it-is/"
    for page in (LIST, f"{LIST}{asset.pk}/change/", f"{LIST}plan/regenerate/"):
        shown = text_of(staff_client.get(page))
        assert address in shown
        assert asset.thumbnail_url not in shown
    assert staff_client.get(address).content == old
    assert "no-store" in staff_client.get(address)["Cache-Control"]
    assert client.get(address).status_code == HTTPStatus.FOUND  # to the login
    asset.refresh_from_db()
    assert asset.state == State.STALE
    cache.delete(asset.thumbnail_name)
    assert staff_client.get(address).status_code == HTTPStatus.NOT_FOUND


def test_list__queries_do_not_grow_with_its_rows(
    staff_client: Client,
    make_asset: MakeAsset,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(20):
        make_asset(session="S")
    with django_assert_max_num_queries(26):
        staff_client.get(LIST)


# --- upload ---------------------------------------------------------------------------------------


def test_upload__is_recorded_by_its_header(staff_client: Client) -> None:
    upload = SimpleUploadedFile("new.jpg", pictures.jpeg(orientation=6))
    response = staff_client.post(reverse("admin:thumbnails_imageasset_add"), {"original": upload})
    assert response.status_code == HTTPStatus.FOUND, text_of(response)
    asset = ImageAsset.objects.get()
    assert (asset.format, asset.orientation) == ("JPEG", 6)
    assert asset.source_version
    assert staff_client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


def test_upload__of_several_adds_those_that_are_images(staff_client: Client) -> None:
    sea = TrainingSession.objects.create(name="Sea")
    url = reverse("admin:thumbnails_imageasset_add")
    form = text_of(staff_client.get(url))
    assert "JPEG, PNG, GIF, WEBP, AVIF, TIFF, BMP and HEIC. Up to 100 files at once." in form
    files = {"a.jpg": pictures.jpeg(), "b.txt": pictures.TEXT, "c.png": pictures.png()}
    uploads = [SimpleUploadedFile(name, data) for name, data in files.items()]
    page = text_of(staff_client.post(url, {"original": uploads, "sessions": sea.pk}, follow=True))
    assets = ImageAsset.objects.all()
    assert [(asset.format, asset.session_ids) for asset in assets] == [
        ("JPEG", [sea.pk]),
        ("PNG", [sea.pk]),
    ]
    assert "1 other image added." in page
    assert "Not added: b.txt: " in page


@pytest.mark.parametrize("content", [b"", b"no picture at all", pictures.bomb()])
def test_upload__of_no_picture_is_refused_with_a_sentence(
    staff_client: Client, content: bytes
) -> None:
    upload = SimpleUploadedFile("new.jpg", content)
    response = staff_client.post(reverse("admin:thumbnails_imageasset_add"), {"original": upload})
    assert response.status_code == HTTPStatus.OK
    assert "errorlist" in text_of(response)
    assert not ImageAsset.objects.exists()


@pytest.mark.parametrize("error", [Busy("Others are rendered."), StorageFailure("It is away.")])
def test_upload__that_cannot_be_looked_at_just_now_is_told(
    staff_client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(serving, "inspect_upload", fail)
    upload = SimpleUploadedFile("new.jpg", pictures.jpeg())
    url = reverse("admin:thumbnails_imageasset_add")
    response = staff_client.post(url, {"original": upload}, follow=True)
    assert response.status_code == HTTPStatus.OK
    assert str(error) in text_of(response)
    assert not ImageAsset.objects.exists()


# --- runs -----------------------------------------------------------------------------------------


def test_run__page_shows_counts_and_failures(staff_client: Client, make_asset: MakeAsset) -> None:
    make_asset()
    broken = make_asset(pictures.truncated(), name="broken.jpg")
    run = start_here()
    work(run)
    page = text_of(staff_client.get(f"/admin/thumbnails/run/{run.pk}/change/"))
    assert "2 of 2 (100" in page
    assert 'data-over="yes"' in page
    assert "1 failed: unreadable" in page
    assert f"/admin/thumbnails/imageasset/{broken.pk}/change/" in page


def test_run__cannot_be_edited(client: Client, make_asset: MakeAsset) -> None:
    make_asset()
    run = start_here()
    url = f"/admin/thumbnails/run/{run.pk}/change/"
    user = User.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    user.user_permissions.set(Permission.objects.filter(codename="regenerate_thumbnails"))
    page = text_of(client.get(url))
    assert 'name="_save"' not in page
    assert client.post(url, {"state": "done"}).status_code == HTTPStatus.FORBIDDEN


def make_run(make_asset: MakeAsset, *, worked_on: bool) -> Run:
    make_asset()
    make_asset(pictures.truncated(), name="broken.jpg")
    run = start_here()
    if worked_on:
        work(run)
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
    assert not run.is_leased


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
    assert "Unknown reason" in text_of(press(staff_client, run, "retry", reason="x"))


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


def test_run__is_not_deleted_while_it_goes_on(admin_client: Client, make_asset: MakeAsset) -> None:
    make_asset()
    over, running = start_here(), start_here()
    control.cancel(over)
    url = f"/admin/thumbnails/run/{running.pk}/"
    assert f"{url}delete/" not in text_of(admin_client.get(f"{url}change/"))
    forged = admin_client.post(f"{url}delete/", {"post": "yes"})
    assert forged.status_code == HTTPStatus.FORBIDDEN
    ticked = {"action": "delete_selected", "_selected_action": [over.pk, running.pk]}
    question = text_of(admin_client.post("/admin/thumbnails/run/", ticked))
    assert f"{running}, which is running: cancel it first" in question
    assert "chunk" not in question
    admin_client.post("/admin/thumbnails/run/", {**ticked, "post": "yes"})
    assert set(Run.objects.all()) == {over, running}
    admin_client.post(
        "/admin/thumbnails/run/", {**ticked, "_selected_action": over.pk, "post": "yes"}
    )
    assert Run.objects.get() == running

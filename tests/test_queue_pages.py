"""django-rq's pages, which show jobs and empty queues: for those with its permission alone."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import django_rq
import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from django_rq.admin import QueueAdmin
from django_rq.models import Dashboard

from tests.servers import QueueServer
from thumbnails.upkeep.queue import NOW

pytestmark = pytest.mark.django_db

# As another URLconf may mount them: by themselves, and with an admin site that they register with.
other_site = admin.AdminSite("other")
other_site.register(Dashboard, QueueAdmin)
urlpatterns = [
    path("jobs/", include("django_rq.urls")),
    path("other/", other_site.urls),
    path("admin/", admin.site.urls),
    path("mine/", lambda _: HttpResponse("mine")),
]

MOUNTS = ["/jobs/", "/other/django_rq/dashboard/"]
NUMBER = sorted(["thumbnails-now", "thumbnails-bulk", "default"]).index(NOW)
"""django-rq's number of the queue in its addresses."""


def empty(client: Client, mount: str) -> Any:
    return client.post(f"{mount}queues/{NUMBER}/empty/", {"yes": "yes"})


@pytest.fixture
def waiting(queue_server: QueueServer) -> None:
    django_rq.get_queue(NOW, commit_mode="auto").enqueue("time.sleep", 0)
    assert jobs_waiting() == 1


def jobs_waiting() -> int:
    return int(django_rq.get_queue(NOW).count)


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("mount", MOUNTS)
def test_queue_pages__are_refused_to_staff_without_the_permission_on_every_mount(
    staff_client: Client, waiting: None, mount: str
) -> None:
    """That staff may do all else in the app."""
    pages = ("", f"queues/{NUMBER}/", "stats.json", "1/change/", "add/")
    refused = {page: staff_client.get(mount + page).status_code for page in pages}
    if mount == "/jobs/":  # these two are of the admin alone
        assert {refused.pop("1/change/"), refused.pop("add/")} == {HTTPStatus.NOT_FOUND}
    assert set(refused.values()) == {HTTPStatus.FORBIDDEN}
    assert empty(staff_client, mount).status_code == HTTPStatus.FORBIDDEN
    assert jobs_waiting() == 1


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("mount", MOUNTS)
def test_queue_pages__lead_anonymous_users_to_the_login(
    client: Client, waiting: None, mount: str
) -> None:
    for response in (client.get(mount), client.get(f"{mount}stats.json"), empty(client, mount)):
        assert response.status_code == HTTPStatus.FOUND
        assert response["Location"].startswith("/admin/login/?next=")
    assert jobs_waiting() == 1


@pytest.mark.urls(__name__)
def test_queue_pages__leave_other_pages_alone(client: Client) -> None:
    assert client.get("/mine/").content == b"mine"


def test_queue_pages__serve_those_with_the_permission(client: Client, waiting: None) -> None:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="django_rq", codename="admin")
    )
    client.force_login(user)
    assert client.get("/admin/django_rq/").status_code == HTTPStatus.OK
    assert empty(client, "/admin/django_rq/").status_code == HTTPStatus.FOUND
    assert jobs_waiting() == 0


def test_queue_pages__are_mounted_once(admin_client: Client) -> None:
    """Not also by the admin, where some of them would ask for a table that there is not."""
    page = admin_client.get("/admin/django_rq/dashboard/1/change/")
    assert page.status_code == HTTPStatus.NOT_FOUND


def test_overview__links_to_them_for_those_who_may(
    staff: User, staff_client: Client, admin_client: Client, queue_server: QueueServer
) -> None:
    link = 'href="/admin/django_rq/"'
    assert link in admin_client.get("/admin/thumbnails/cache/").content.decode()
    assert link not in staff_client.get("/admin/thumbnails/cache/").content.decode()

"""The Content-Security-Policy in a real Chromium: no page breaks, and no injected script runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import django_rq
import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.safestring import mark_safe
from playwright.sync_api import ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer
from rq.job import JobStatus

from tests import pictures, test_browser
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_here, work
from tests.test_browser import look_at
from tests.waiting import wait_for
from thumbnails.models import ApiToken, ImageAsset, TrainingSession
from thumbnails.upkeep.images import serving

pytestmark = test_browser.pytestmark

# Fixtures of a module serve that module alone, unless another one names them.
browser_type_launch_args = test_browser.browser_type_launch_args
logged_in = test_browser.logged_in

LISTEN = """document.addEventListener("securitypolicyviolation", event =>
    noteRefused(`${event.effectiveDirective} ${event.blockedURI} on ${location.pathname}`))"""


def is_refusal(said: ConsoleMessage) -> bool:
    return said.type == "error" and "Content Security Policy" in said.text


@pytest.fixture(autouse=True)
def refused(page: Page) -> list[str]:
    """What the browser refuses by the policy, on every page that is opened from now on."""
    noted: list[str] = []

    def note(violation: str) -> None:
        noted.append(violation)

    def note_console(said: ConsoleMessage) -> None:
        if is_refusal(said):
            note(said.text)

    page.set_default_timeout(test_browser.PATIENCE_MS)
    page.expose_function("noteRefused", note)
    page.add_init_script(LISTEN)
    page.on("console", note_console)
    return noted


def open_page(page: Page, url: str) -> None:
    response = page.goto(url)
    assert response is not None
    assert response.headers["content-security-policy"], url
    page.evaluate("new Promise(done => setTimeout(done))")  # the events before it are told


# --- every page -----------------------------------------------------------------------------------

ARGUMENTS = {"app_label": "thumbnails", "kind": "regenerate", "verb": "cancel"}
"""Of URLs; any other argument is the key of an object."""
NO_PAGES = ("thumbnails_api:", "thumbnails:", "admin:view_on_site")
QUEUE_PAGES = ("django_rq:", "admin:django_rq_")  # they have a test of their own


def named_patterns(
    patterns: Sequence[URLPattern | URLResolver], namespace: str = ""
) -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from named_patterns(pattern.url_patterns, inner)
        elif pattern.name:
            yield namespace + pattern.name, pattern


def argument(view: str, name: str) -> object:
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    if name == "asset_id":
        return ImageAsset.objects.latest("pk").pk
    app, model = view.removeprefix("admin:").split("_")[:2]  # as Django names its admin's views
    manager = apps.get_model(app, model)._meta.default_manager
    assert manager is not None
    return manager.latest("pk").pk


def pages(client: Client) -> dict[str, str]:
    """The paths of all pages that the URLconf has, by the names of their views."""
    found = {"thumbnails_api:openapi-view": reverse("thumbnails_api:openapi-view")}
    for view, pattern in named_patterns(get_resolver().url_patterns):
        if view.startswith((*NO_PAGES, *QUEUE_PAGES)):
            continue
        names = pattern.pattern.regex.groupindex
        path = reverse(view, kwargs={name: argument(view, name) for name in names})
        response = client.get(path)
        b"".join(response)  # which closes a file that is sent
        if response.status_code == HTTPStatus.OK and "html" in response.headers["Content-Type"]:
            found[view] = path
    return found


PARTS = ("run_progress$", "imageasset_alike_chosen$")
OF_THE_APP = re.compile(
    rf"thumbnails_gallery:|admin:(thumbnails_(?!{'|'.join(PARTS)})|app_list|index)"
)
"""Views whose pages are the app's or show its models; PARTS are parts of others."""


def test_pages__meet_the_policy_and_keep_nobody_out(
    page: Page,
    live_server: LiveServer,
    make_asset: MakeAsset,
    superuser: User,
    client: Client,
    worker: StartWorker,
    refused: list[str],
) -> None:
    stale = make_asset()
    make_asset(pictures.truncated())
    make_asset(name="a/folder/of-some-length/" * 3 + "missing.jpg")
    serving.serve(
        make_asset(name="a-name-without-a-place-to-break-" + "x" * 60 + ".jpg", session="A session")
    )
    ApiToken.objects.issue(superuser, "A token")
    Group.objects.create(name="A group")
    under_way, run = start_here(), start_here()
    work(run)
    ImageAsset.objects.filter(pk=stale.pk).update(thumbnail_recipe="0123456789abcdef")
    open_page(page, live_server.url + reverse("admin:login"))
    client.force_login(superuser)
    page.context.add_cookies(
        [
            {"name": cookie.key, "value": cookie.value, "url": live_server.url}
            for cookie in client.cookies.values()
        ]
    )
    worker()

    found = pages(client)
    found["admin:thumbnails_run_change under way"] = f"/admin/thumbnails/run/{under_way.pk}/change/"
    purge = reverse("admin:thumbnails_imageasset_plan", args=["purge"])
    found["admin:thumbnails_imageasset_plan of a purge"] = purge
    faults = []
    for view, path in {**found, "": "/there-is-no-such-page"}.items():
        open_page(page, live_server.url + path)
        if OF_THE_APP.match(view):
            faults += [f"{path}: {fault}" for fault in test_browser.faults_for_people(page)]

    assert {
        "thumbnails_gallery:gallery",
        "thumbnails_gallery:image",
        "admin:index",
        "admin:app_list",
        "admin:password_change",
        "admin:thumbnails_cache_changelist",
        "admin:thumbnails_imageasset_change",
        "admin:thumbnails_imageasset_delete",
        "admin:thumbnails_imageasset_history",
        "admin:thumbnails_imageasset_plan",
        "admin:thumbnails_run_change",
        "admin:thumbnails_trainingsession_changelist",
        "admin:thumbnails_apitoken_add",
    } <= found.keys()
    assert refused == []
    assert "\n".join(faults) == ""


def test_policy__is_met_while_staff_work(
    logged_in: Page,
    live_server: LiveServer,
    make_asset: MakeAsset,
    worker: StartWorker,
    refused: list[str],
) -> None:
    for _ in range(4):
        serving.serve(make_asset())
    worker()
    page = logged_in
    open_page(page, live_server.url + reverse("admin:thumbnails_imageasset_changelist"))
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option("Regenerate thumbnails")
    page.get_by_role("button", name="Go").click()
    page.get_by_role("link", name="Render them, too").click()
    page.get_by_label("Images a second at most").fill("2")
    page.get_by_role("button", name="Preview them").click()
    images = page.locator(".previews img")
    expect(images).not_to_have_count(0)
    for image in images.all():
        look_at(image)  # it stands in the page, as data:
    page.get_by_role("button", name="Go on with all 4").first.click()
    expect(page.locator("#run-report")).to_have_attribute("data-over", "no")
    expect(page.locator("#run-report")).to_have_attribute("data-over", "yes")

    sea, _ = (TrainingSession.objects.create(name="Sea") for _ in range(2))
    asset = ImageAsset.objects.latest("pk")
    address = reverse("admin:thumbnails_imageasset_change", args=[asset.pk])
    open_page(page, live_server.url + address)
    page.get_by_role("searchbox", name="Sessions").fill("se")
    page.get_by_role("option", name=f"Sea (#{sea.pk})").click()
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert asset.session_ids == [sea.pk]

    open_page(page, live_server.url + reverse("admin:thumbnails_apitoken_add"))
    page.get_by_label("Name").fill("A script")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#secret")).to_be_visible()

    open_page(page, live_server.url + reverse("thumbnails_api:openapi-view"))
    operation = page.locator(".opblock", has=page.get_by_text("/api/v1/images", exact=True))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table td.response-col_status").last
    expect(answer).to_contain_text("200")

    assert refused == []


def test_queue_pages__work_without_their_inline_parts(
    logged_in: Page, staff: User, live_server: LiveServer, worker: StartWorker
) -> None:
    """django-rq's templates have scripts and styles inline, which the policy refuses."""
    staff.user_permissions.add(Permission.objects.get(codename="admin"))
    job = django_rq.get_queue("thumbnails-now").enqueue("thumbnails.jobs.there_is_none")
    started = worker()
    wait_for(lambda: job.get_status() == JobStatus.FAILED, "the job to fail")
    started.stop()
    page = logged_in
    open_page(page, live_server.url + reverse("django_rq:home"))
    page.locator("a[href$='/failed/']", has_text="1").click()
    page.locator("#action-toggle").check()
    expect(page.locator("input.action-select")).to_be_checked()
    page.get_by_label("Actions:").select_option("Requeue")
    page.get_by_role("button", name="Go").click()
    page.get_by_role("button", name="Requeue 1 job").click()
    assert job.get_status() == JobStatus.QUEUED

    expect(page.get_by_text("0 jobs")).to_be_visible()

    open_page(page, page.url.replace("failed", job.id))
    page.get_by_role("link", name="View →").click()
    expect(page.locator("#content-main")).to_contain_text("there_is_none")


INJECTIONS = (
    "<script>window.injected = true</script>",
    "<img src='' onerror='window.injected = true'>",
    "<iframe src='javascript:parent.injected = true'></iframe>",
)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_injected_script__does_not_run(
    page: Page,
    live_server: LiveServer,
    make_asset: MakeAsset,
    monkeypatch: pytest.MonkeyPatch,
    injection: str,
) -> None:
    """As where a template forgets to escape the name of an image."""
    make_asset()
    monkeypatch.setattr(ImageAsset, "title", mark_safe(injection))  # noqa: S308
    with page.expect_console_message(is_refusal):
        open_page(page, live_server.url)
    assert injection in page.content().replace('"', "'")
    assert page.evaluate("window.injected") is None


def test_thumbnail__is_shown_by_another_site(
    page: Page, live_server: LiveServer, make_asset: MakeAsset
) -> None:
    asset = make_asset()
    serving.serve(asset)
    asset.refresh_from_db()
    elsewhere = live_server.url.replace("localhost", "127.0.0.1") + "/elsewhere"
    body = f'<img src="{live_server.url}{asset.thumbnail_url}">'
    page.route(elsewhere, lambda route: route.fulfill(content_type="text/html", body=body))
    # Chromium asks before it loads from loopback into another site's page.
    page.context.grant_permissions(["local-network-access"])
    page.goto(elsewhere)
    look_at(page.locator("img"))

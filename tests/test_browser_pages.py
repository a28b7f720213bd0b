"""The pages of a run and of an asset as staff meet them, in a real Chromium with real workers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Request, expect
from pytest_django.live_server_helper import LiveServer

from tests import pictures, test_browser
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_run, work
from tests.servers import QueueServer
from tests.test_browser import look_at, shown_corners

pytestmark = test_browser.pytestmark

# Fixtures of a module serve that module alone, unless another one names them.
browser_type_launch_args = test_browser.browser_type_launch_args
nothing_goes_wrong = test_browser.nothing_goes_wrong
logged_in = test_browser.logged_in

Colours = Literal["light", "dark"]


@pytest.fixture
def go(logged_in: Page, live_server: LiveServer) -> Callable[[str], Page]:
    """Open a page of the app's admin."""

    def open_page(path: str) -> Page:
        logged_in.goto(f"{live_server.url}/admin/thumbnails/{path}")
        return logged_in

    return open_page


Go = Callable[[str], Page]


def bar_of(page: Page) -> float:
    return float(page.locator("#run-report progress").evaluate("bar => bar.value"))


def test_run__bar_moves_by_itself_to_its_end(
    go: Go, make_asset: MakeAsset, worker: StartWorker
) -> None:
    make_asset(pictures.truncated())
    for _ in range(12):
        make_asset()
    worker()
    run = start_run(rate=2)
    page = go(f"run/{run.pk}/change/")
    asked: list[Request] = []
    page.on("request", lambda r: asked.append(r) if r.url.endswith("/progress/") else None)
    page.evaluate("window.loadedOnce = true")
    first = bar_of(page)
    page.wait_for_function(
        "first => document.querySelector('#run-report progress').value > first", arg=first
    )
    # Its example is shown as soon as it has failed.
    expect(page.get_by_role("heading", name="1 failed: unreadable")).to_be_visible()
    assert page.evaluate("window.loadedOnce")  # it moved, and the page was not loaded again

    report = page.locator("#run-report")
    expect(report).to_have_attribute("data-over", "yes")

    assert bar_of(page) == 100
    expect(report.get_by_role("row", name="Failed")).to_contain_text("1 unreadable")
    expect(page.get_by_role("heading", name="1 failed: unreadable")).to_be_visible()
    expect(page.locator(".run-log")).to_contain_text("Done")
    times = [request.timing["startTime"] for request in asked]
    assert times
    assert all(later - earlier > 1900 for earlier, later in pairwise(times))


def test_run__asks_less_often_while_the_server_fails(
    go: Go, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    run = start_run()
    page = go(f"run/{run.pk}/change/")
    page.route("**/progress/", lambda route: route.abort())
    expect(page.locator("#run-silent")).to_contain_text("The server does not answer")
    page.unroute("**/progress/")
    expect(page.locator("#run-silent")).to_be_empty()


def test_run__asks_nothing_while_it_is_hidden(
    go: Go, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    run = start_run()
    page = go(f"run/{run.pk}/change/")
    asked: list[Request] = []
    page.on("request", lambda r: asked.append(r) if r.url.endswith("/progress/") else None)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, arg=True)
    page.wait_for_timeout(3000)
    assert not asked
    with page.expect_request("**/progress/"):
        page.evaluate(hide, arg=False)


def test_run__cancel_and_resume_by_its_buttons(
    go: Go, make_asset: MakeAsset, worker: StartWorker
) -> None:
    for _ in range(6):
        make_asset()
    run = start_run(rate=2)
    page = go(f"run/{run.pk}/change/")
    expect(page.locator("#run-report")).to_contain_text("No worker is running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#run-report strong")).to_have_text("Cancelled")
    page.get_by_role("button", name="Resume").click()
    worker()
    expect(page.locator("#run-report")).to_have_attribute("data-over", "yes")
    expect(page.locator("#run-report strong")).to_have_text("Done")


def test_run__without_javascript(
    browser: Browser, logged_in: Page, live_server: LiveServer, make_asset: MakeAsset
) -> None:
    make_asset()
    run = start_run(leased=True)
    state = logged_in.context.storage_state()
    with browser.new_context(java_script_enabled=False, storage_state=state) as context:
        page = context.new_page()
        page.goto(f"{live_server.url}/admin/thumbnails/run/{run.pk}/change/")
        expect(page.locator("#run-report")).to_contain_text("0 of 1")
        work(run)
        page.get_by_role("link", name="load the page again").click()
        expect(page.locator("#run-report")).to_contain_text("1 of 1")


def test_asset__regenerate_purge_and_another_original(
    go: Go, make_asset: MakeAsset, tmp_path: Path
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)))
    page = go(f"imageasset/{asset.pk}/change/")
    page.get_by_role("button", name="Regenerate now").click()
    expect(page.locator(".messagelist")).to_contain_text("was rendered")
    image = page.locator("img.thumbnail")
    look_at(image)
    assert shown_corners(image) == pictures.UPRIGHT
    old_url = image.get_attribute("src")

    page.get_by_role("link", name="Purge").click()
    page.get_by_role("button", name="Yes, purge it").click()
    expect(page.locator(".messagelist")).to_contain_text("purged")
    expect(page.locator(".field-state_shown")).to_contain_text("Missing")

    new = tmp_path / "new.png"
    new.write_bytes(pictures.png(pictures.scene(300, 100)))
    page.get_by_label("New original").set_input_files(new)
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist")).to_contain_text("was rendered")
    look_at(image)
    assert image.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [256, 85]
    assert image.get_attribute("src") != old_url
    outcomes = page.locator(".asset-history tbody tr td:nth-child(2)").all_inner_texts()
    assert outcomes == ["Rendered", "Purged", "Rendered"]

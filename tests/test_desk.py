"""The way that the project is for: staff mend what a bug of the renderer left behind.

From one wrong picture over the plan and the preview to the run and its report, in a real Chromium
with real workers.
"""

from __future__ import annotations

import io
import re

import pytest
from django.contrib.auth.models import User
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests import pictures, test_browser
from tests.conftest import MakeAsset, StartWorker
from tests.servers import QueueServer
from tests.test_browser import faults_for_people, look_at, serious_violations, shown_corners
from thumbnails.models import ImageAsset, Run
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import serving

pytestmark = test_browser.pytestmark

# Fixtures of a module serve that module alone, unless another one names them.
browser_type_launch_args = test_browser.browser_type_launch_args
nothing_goes_wrong = test_browser.nothing_goes_wrong
logged_in = test_browser.logged_in

UPRIGHT, TURNED = 8, 4


@pytest.fixture
def after_the_bug(make_asset: MakeAsset) -> list[ImageAsset]:
    """A site whose renderer ignored the EXIF orientation: the turned photos lie on their side."""
    assets = [make_asset(name=f"upright-{number}.jpg") for number in range(UPRIGHT)]
    turned = [
        make_asset(pictures.jpeg(orientation=6), name=f"turned-{number}.jpg")
        for number in range(TURNED)
    ]
    for asset in [*assets, *turned]:
        serving.render_now(asset.pk)
    sideways = io.BytesIO()
    pictures.laid(pictures.scene(), 6).save(sideways, "JPEG")
    for asset in turned:
        cache.write(asset.thumbnail_name, sideways.getvalue())
    ImageAsset.objects.filter(pk=turned[0].pk).update(camera="A phone")
    ImageAsset.objects.update(thumbnail_recipe="0ld", thumbnail_bytes=len(sideways.getvalue()))
    return turned


def admin(live_server: LiveServer, path: str = "") -> str:
    return f"{live_server.url}/admin/thumbnails/{path}"


def test_desk__from_one_wrong_picture_to_proof_in_five_clicks(
    logged_in: Page,
    live_server: LiveServer,
    after_the_bug: list[ImageAsset],
    worker: StartWorker,
) -> None:
    worker()
    page = logged_in
    complaint = after_the_bug[0]
    page.goto(admin(live_server, f"imageasset/{complaint.pk}/change/"))
    page.get_by_role("link", name="Find others like this").click()  # 1
    expect(page.get_by_label("Turned by the camera")).to_be_checked()
    expect(page.locator("#alike-chosen")).to_contain_text(f"{TURNED} images share")

    page.get_by_role("link", name="Plan to regenerate them").click()  # 2
    expect(page.get_by_role("heading", level=1)).to_have_text("Regenerate thumbnails")
    expect(page.locator("table.facts")).to_contain_text(f"{TURNED}: {TURNED} stale")
    page.get_by_label("Note").fill("EXIF orientation")

    page.get_by_role("button", name="Preview them").click()  # 3
    previews = page.locator("ol.previews > li")
    expect(previews).to_have_count(TURNED)
    old, new = previews.first.locator("img").all()[:2]
    assert shown_corners(old) != shown_corners(new)
    assert shown_corners(new) == pictures.corners(pictures.scene())
    assert not Run.objects.exists()
    assert list(faults_for_people(page)) == []

    page.get_by_role("button", name=f"Go on with all {TURNED}").first.click()  # 4
    expect(page.locator("#run-report")).to_have_attribute("data-over", "yes")
    expect(page.locator("#run-report")).to_contain_text(f"{TURNED} of {TURNED}")
    run = Run.objects.get()
    assert (run.note, run.progress().rendered) == ("EXIF orientation", TURNED)
    assert ImageAsset.objects.stale().count() == UPRIGHT  # those were right, and left alone

    page.get_by_role("link", name="Report", exact=True).click()  # 5
    expect(page.locator("table.facts")).to_contain_text(f"Fresh now\t{TURNED}", use_inner_text=True)
    expect(page.locator("#run-images tbody tr")).to_have_count(TURNED)

    page.goto(admin(live_server, "imageasset/?orientation=2-8"))
    image = page.locator("#result_list img.thumbnail").first
    look_at(image)
    assert shown_corners(image) == pictures.corners(pictures.scene())


def test_alike__counts_anew_what_is_ticked(
    logged_in: Page, live_server: LiveServer, after_the_bug: list[ImageAsset]
) -> None:
    page = logged_in
    chosen, turned = page.locator("#alike-chosen"), page.get_by_label("Turned by the camera")
    page.goto(admin(live_server, f"imageasset/{after_the_bug[0].pk}/alike/"))
    expect(page.get_by_role("button", name="Count what is ticked")).to_be_hidden()
    turned.uncheck()
    expect(chosen).to_have_text("Nothing is ticked.")
    page.get_by_label("JPEG file").check()
    expect(chosen).to_contain_text(f"{UPRIGHT + TURNED} images share")
    link = chosen.get_by_role("link", name="Plan to regenerate them")
    expect(link).to_have_attribute("href", re.compile(r"\?format=JPEG$"))
    page.reload()
    expect(turned).not_to_be_checked()
    expect(chosen).to_contain_text(f"{UPRIGHT + TURNED} images share")


def test_desk__works_without_javascript(
    browser: Browser,
    live_server: LiveServer,
    staff: User,
    after_the_bug: list[ImageAsset],
    queue_server: QueueServer,
) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{live_server.url}/admin/login/")
    page.get_by_label("Username").fill(staff.username)
    page.get_by_label("Password").fill("staff")
    page.get_by_role("button", name="Log in").click()
    page.goto(admin(live_server, f"imageasset/{after_the_bug[0].pk}/alike/"))
    page.get_by_label("Taken by A phone").check()
    page.get_by_role("button", name="Count what is ticked").click()
    page.get_by_role("link", name="Plan to regenerate it").click()
    page.get_by_role("button", name="Preview it").click()
    page.get_by_role("button", name="Go on with all 1").first.click()
    expect(page.locator("#run-report")).to_contain_text("0 of 1")
    assert Run.objects.get().total == 1
    page.close()


def test_desk__a_double_click_starts_one_run(
    logged_in: Page,
    live_server: LiveServer,
    after_the_bug: list[ImageAsset],
    queue_server: QueueServer,
) -> None:
    logged_in.goto(admin(live_server, "imageasset/plan/regenerate/"))
    logged_in.get_by_role("button", name="Regenerate 12 thumbnails").dblclick(no_wait_after=True)
    expect(logged_in.locator("#run-report")).to_be_visible()
    assert Run.objects.count() == 1


def test_desk__dates_are_chosen_in_a_form(
    logged_in: Page, live_server: LiveServer, after_the_bug: list[ImageAsset]
) -> None:
    page = logged_in
    page.goto(admin(live_server, "imageasset/?orientation=6"))
    page.get_by_label("created to").fill("2000-01-01")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(0)
    assert "orientation=6" in page.url
    page.get_by_role("link", name="Clear", exact=True).click()
    expect(page.locator("#result_list tbody tr")).to_have_count(TURNED)


def test_tokens__the_page_of_a_new_one_is_accessible(
    logged_in: Page, live_server: LiveServer
) -> None:
    logged_in.goto(admin(live_server, "apitoken/add/"))
    logged_in.get_by_label("Name").fill("nightly")
    logged_in.get_by_role("button", name="Save", exact=True).click()
    expect(logged_in.locator("#secret")).to_contain_text("thumb_")
    assert serious_violations(logged_in, "#content") == []


def test_pictures__of_this_module_are_told_apart() -> None:
    """What the way above rests on: a picture on its side shows other corners."""
    turned = pictures.laid(pictures.scene(), 6).resize((64, 48), Image.Resampling.NEAREST)
    assert pictures.corners(turned) != pictures.corners(pictures.scene())

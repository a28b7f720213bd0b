"""The site as a person meets it: the gallery and the admin in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import ConsoleMessage, Locator, Page, Response, expect
from pytest_django.live_server_helper import LiveServer

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_here, work
from tests.servers import QueueServer
from thumbnails.models import ImageAsset
from thumbnails.upkeep.images import serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE_MS = 60_000
PHONE_PX = 360

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="no Chromium found; on Debian and Ubuntu `apt-get install chromium` brings one",
    ),
]
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {
        **browser_type_launch_args,
        "executable_path": CHROMIUM,
        "args": [
            # It shows nothing but our own pages, and root has no sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ],
    }


@pytest.fixture(autouse=True)
def nothing_goes_wrong(page: Page) -> Iterator[None]:
    """No page asks for what is not there, and no script fails."""
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []

    def note_response(response: Response) -> None:
        if response.status >= 400:
            wrong.append(f"{response.status} {response.url}")

    def note_console(said: ConsoleMessage) -> None:
        # Of resources, `note_response` tells more.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            wrong.append(said.text)

    page.on("response", note_response)
    page.on("console", note_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield
    assert wrong == []


@pytest.fixture
def logged_in(page: Page, live_server: LiveServer, staff: User) -> Page:
    page.goto(live_server.url + reverse("admin:login"))
    page.get_by_label("Username").fill(staff.username)
    page.get_by_label("Password").fill("staff")
    page.get_by_role("button", name="Log in").click()
    return page


def thumbnails(page: Page) -> list[Locator]:
    return page.locator("img").all()


def look_at(image: Locator) -> None:
    """Scroll to it, since it loads only when it is near, and wait until it stands there."""
    image.scroll_into_view_if_needed()
    handle = image.element_handle()
    image.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=handle)


def shown_corners(image: Locator) -> tuple[str, ...]:
    """The colours of its quarters, as the browser paints them."""
    pixels = image.evaluate(
        """image => {
            const canvas = document.createElement("canvas");
            const [width, height] = [image.naturalWidth, image.naturalHeight];
            [canvas.width, canvas.height] = [width, height];
            const paper = canvas.getContext("2d");
            paper.drawImage(image, 0, 0);
            const pixel = (x, y) => [...paper.getImageData(x * width, y * height, 1, 1).data];
            return [pixel(.25, .25), pixel(.75, .25), pixel(.25, .75), pixel(.75, .75)];
        }"""
    )
    return tuple(pictures.colour_of(pixel[:3]) for pixel in pixels)


AXE = """([part, rules]) => axe.run(part ?? document, {
    // To preload style sheets axe writes styles inline, which the site's policy refuses; only an
    // experimental rule asks for them.
    preload: false,
    resultTypes: ["violations"],
    ...(rules.length ? {runOnly: rules} : {}),
}).then(results => results.violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => `${found.id}: ${found.nodes.map(node => node.html).join(", ")}`))"""
OF_LOOKS = ("color-contrast", "link-in-text-block", "scrollable-region-focusable")
"""The rules by which a page may be right in one size and colour scheme, and wrong in another."""


def serious_violations(
    page: Page, part: str | None = None, *, rules: Sequence[str] = ()
) -> list[str]:
    """What axe finds that keeps people out, on the page or a part of it, by some or all rules."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    found: list[str] = page.evaluate(AXE, [part, list(rules)])
    return found


WITHOUT_FADING = """() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("* { transition: none !important }");
    document.adoptedStyleSheets.push(sheet);
}"""
"""Django fades from one colour scheme into the other."""
OPEN = "all => all.forEach(one => one.open = true)"


def faults_for_people(page: Page) -> Iterator[str]:
    """What keeps people out of the page on a phone in dark colours and at a desk in light ones, and
    what does not fit there."""
    page.evaluate(WITHOUT_FADING)
    page.locator("details").evaluate_all(OPEN)
    looks: tuple[tuple[int, Literal["light", "dark"], Sequence[str]], ...] = (
        (PHONE_PX, "dark", OF_LOOKS),
        (1280, "light", ()),
    )
    for width_px, colours, rules in looks:
        page.set_viewport_size({"width": width_px, "height": 800})
        page.emulate_media(color_scheme=colours)
        for violation in serious_violations(page, rules=rules):
            yield f"{width_px} px, {colours}: {violation}"
        # A list scrolls in a box of its own, but not at a desk.
        boxes = "html" if width_px < 1280 else "html, .results"
        over = page.locator(boxes).evaluate_all(
            "boxes => Math.max(...boxes.map(box => box.scrollWidth - box.clientWidth))"
        )
        if over > 0:
            yield f"{width_px} px: {over} px too wide"


def test_gallery__shows_every_thumbnail_upright(
    page: Page, live_server: LiveServer, make_asset: MakeAsset
) -> None:
    for orientation in pictures.ORIENTATIONS:
        make_asset(pictures.jpeg(pictures.scene(640, 480), orientation=orientation))
    make_asset(pictures.png(mode="P"))
    make_asset(pictures.jpeg(pictures.scene(480, 640), mode="CMYK"))

    page.goto(live_server.url)

    images = thumbnails(page)
    assert len(images) == 10
    for image in images:
        look_at(image)
        assert shown_corners(image) == pictures.UPRIGHT


def test_gallery__keeps_its_layout_while_thumbnails_arrive(
    page: Page, live_server: LiveServer, make_asset: MakeAsset
) -> None:
    for size in ((640, 480), (480, 640), (1200, 100), (1, 1)):
        make_asset(pictures.jpeg(pictures.scene(*size)))
    tops = "[...document.querySelectorAll('li')].map(li => li.getBoundingClientRect().top)"

    page.route("**/*.jpg*", lambda route: route.abort())
    page.goto(live_server.url)
    without = page.evaluate(tops)
    page.unroute("**/*.jpg*")
    page.reload()
    for image in thumbnails(page):
        look_at(image)
        natural = image.evaluate("image => [image.naturalWidth, image.naturalHeight].map(String)")
        assert [image.get_attribute("width"), image.get_attribute("height")] == natural
    page.evaluate("scrollTo(0, 0)")

    assert page.evaluate(tops) == without


def test_gallery__fits_a_phone(page: Page, live_server: LiveServer, make_asset: MakeAsset) -> None:
    make_asset(name="a-name-without-a-place-to-break-" + "x" * 100 + ".jpg")
    for _ in range(3):
        make_asset(pictures.jpeg(pictures.scene(2000, 100)))
    page.set_viewport_size({"width": PHONE_PX, "height": 740})

    page.goto(live_server.url)

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE_PX
    for image in thumbnails(page):
        look_at(image)
        box = image.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE_PX


def test_admin__regenerates_what_is_ticked(
    logged_in: Page, live_server: LiveServer, make_asset: MakeAsset, worker: StartWorker
) -> None:
    for _ in range(3):
        serving.serve(make_asset(pictures.jpeg(pictures.scene(640, 480), orientation=6)))
    worker()
    page = logged_in
    page.goto(live_server.url + reverse("admin:thumbnails_imageasset_changelist"))
    for image in thumbnails(page):
        look_at(image)
    made_at = dict(ImageAsset.objects.values_list("pk", "thumbnail_generated_at"))
    boxes = page.locator("input.action-select").all()[:2]
    for box in boxes:
        box.check()
    ticked = {int(box.input_value()) for box in boxes}
    page.get_by_label("Action:").select_option("Regenerate thumbnails")
    page.get_by_role("button", name="Go").click()
    page.get_by_role("link", name="Render them, too").click()
    page.get_by_role("button", name="Regenerate 2 thumbnails").click()

    report = page.locator("#run-report")
    expect(report).to_have_attribute("data-over", "yes")
    expect(report.get_by_role("row", name="Rendered")).to_contain_text("2")
    now = dict(ImageAsset.objects.values_list("pk", "thumbnail_generated_at"))
    assert {pk for pk in now if now[pk] != made_at[pk]} == ticked


# --- the overview ---------------------------------------------------------------------------------


@pytest.fixture
def overview(logged_in: Page, live_server: LiveServer, make_asset: MakeAsset) -> Page:
    """With something in each of its parts; the server's own address is where it stands."""
    for orientation in (1, 6):
        serving.serve(make_asset(pictures.jpeg(orientation=orientation)))
    old = make_asset()
    serving.serve(old)
    ImageAsset.objects.filter(pk=old.pk).update(thumbnail_recipe="0123456789abcdef")
    make_asset(pictures.truncated())
    work(start_here(assets=ImageAsset.objects.failed() | ImageAsset.objects.missing()))
    make_asset()
    logged_in.goto(live_server.url + reverse("admin:thumbnails_cache_changelist"))
    return logged_in


def test_overview__has_its_headings_in_order(overview: Page, queue_server: QueueServer) -> None:
    overview.reload()  # the queue answers now
    expect(overview.locator("#overview-queue .errornote")).to_contain_text("No worker is running")
    levels = overview.locator("main :is(h1, h2, h3)").evaluate_all("all => all.map(h => h.tagName)")
    assert levels == ["H1"] + ["H2"] * (len(levels) - 1)


def test_overview__of_an_empty_site_with_the_queue_down_is_accessible(
    logged_in: Page, live_server: LiveServer, queue_server: QueueServer
) -> None:
    page = logged_in
    queue_server.kill()
    page.goto(live_server.url + reverse("admin:thumbnails_cache_changelist"))

    expect(page.locator("#overview-queue .errornote")).to_contain_text("cannot be reached")
    assert serious_violations(page) == []


def test_overview__is_found_from_the_index_and_leads_to_lists_by_keyboard(
    overview: Page, live_server: LiveServer
) -> None:
    page = overview
    page.goto(live_server.url + reverse("admin:index"))
    page.locator("#content-main").get_by_role("link", name="Cache", exact=True).click()
    part = page.locator("svg.states a", has=page.locator("rect.stale"))
    expect(part).to_have_accessible_name("Stale: 1 of 5")

    part.focus()
    page.keyboard.press("Enter")

    page.wait_for_url("**/imageasset/?state=stale")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)


def test_overview__works_without_javascript(overview: Page, live_server: LiveServer) -> None:
    browser = overview.context.browser
    assert browser is not None
    context = browser.new_context(
        java_script_enabled=False, storage_state=overview.context.storage_state()
    )
    page = context.new_page()
    page.goto(overview.url)
    page.get_by_role("link", name="Age of the oldest thumbnail").click()
    page.wait_for_url("**/?heat=age*")
    expect(page.locator("#overview-shards [aria-current]")).to_have_text(
        "Age of the oldest thumbnail"
    )
    page.get_by_text("The numbers of each shard").click()
    expect(page.locator("#overview-shards tbody tr")).to_have_count(256)
    expect(page.locator("#overview-shards tbody tr").first).to_be_visible()
    context.close()

"""Takes the screenshots of the documents: `make screenshots`. No test, though pytest runs it.

A site of the demo pictures whose renderer ignored the EXIF orientation until just now.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from tests import test_browser
from tests.conftest import StartWorker
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, Run
from thumbnails.rendering.render import TRANSPOSITIONS
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import importing, serving
from thumbnails.upkeep.runs import starting
from thumbsite.demo.pictures import make_demo_pictures

pytestmark = test_browser.pytestmark

browser_type_launch_args = test_browser.browser_type_launch_args
logged_in = test_browser.logged_in

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
SIZE_PX = {"width": 1200, "height": 900}
BACK = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}
"""What undoes a transposition; the others undo themselves."""


@pytest.fixture
def after_the_bug(db: None, originals_dir: Path) -> None:
    make_demo_pictures(originals_dir / "demo")
    for _ in importing.import_files(importing.find_files([originals_dir]), session="Demo"):
        pass
    for asset in ImageAsset.objects.all():
        serving.render_now(asset.pk)
        asset.refresh_from_db()
        if asset.thumbnail_path and asset.orientation in TRANSPOSITIONS:
            _lay_down(asset)
    ImageAsset.objects.exclude(thumbnail_path="").update(thumbnail_recipe="5d1e0a7c44b2f6e9")


def _lay_down(asset: ImageAsset) -> None:
    """As the old renderer made it: the stored pixels, whatever EXIF says."""
    content = cache.read(asset.thumbnail_path)
    if content is None:
        return
    way = TRANSPOSITIONS[asset.orientation]
    old = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.transpose(BACK.get(way, way)).save(old, "JPEG", quality=85)
    cache.write(asset.thumbnail_path, old.getvalue())


def take(page: Page, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=FOLDER / f"{name}.png")


def test_screenshots(
    logged_in: Page, live_server: LiveServer, after_the_bug: None, worker: StartWorker
) -> None:
    worker()
    page = logged_in
    page.set_viewport_size(SIZE_PX)  # type: ignore[arg-type]
    for rate in (4, 6, 3, 8):
        _finished(page, runs_at=rate)
    ImageAsset.objects.filter(orientation=1).update(thumbnail_recipe="5d1e0a7c44b2f6e9")
    base = f"{live_server.url}/admin/thumbnails/"
    page.goto(f"{base}cache/")
    take(page, "overview")
    turned = ImageAsset.objects.filter(orientation=6).latest("pk")
    page.goto(f"{base}imageasset/{turned.pk}/alike/")
    take(page, "alike")
    page.goto(f"{base}imageasset/plan/regenerate/?orientation=2-8")
    page.get_by_label("Note").fill("EXIF orientation was ignored")
    take(page, "plan")
    page.get_by_role("button", name="Preview 12 of them").click()
    take(page, "preview")
    page.goto(f"{base}imageasset/plan/regenerate/?force=1")
    page.get_by_label("Note").fill("EXIF orientation was ignored")
    page.get_by_label("Images a second at most").fill("4")
    page.locator("input[name=start]").click()
    expect(page.locator("#run-report")).to_be_visible()
    # Playwright's own wait_for_function evaluates a text, which the site's policy refuses.
    bar = page.locator("#run-report progress")
    wait_for(lambda: bar.evaluate("bar => bar.value") > 30, "a third of the run")
    take(page, "run")


def _finished(page: Page, *, runs_at: float) -> None:
    """A run of the past, for the overview to show."""
    ids = list(ImageAsset.objects.filter(orientation=1).values_list("pk", flat=True)[:10])
    run = starting.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.filter(pk__in=ids),
        origin=Run.Origin.ADMIN,
        scope_text="ids 1-10",
        force=True,
        rate=runs_at,
    )
    page.wait_for_timeout(10 / runs_at * 1000)
    while not Run.objects.filter(pk=run.pk, state=Run.State.DONE).exists():
        page.wait_for_timeout(200)
    expect(page.locator("body")).to_be_visible()

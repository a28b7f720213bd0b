"""The overview: the right numbers, the ways to the lists behind them, and who may see it."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_here, work
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import NoThumbnail
from thumbnails.models import CachedCount, ImageAsset, Run, State, recipe_in_force
from thumbnails.models.recipes import label_of
from thumbnails.storage.names import SHARDS, shard_for
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.images.acceptance import accept_failures
from thumbnails.upkeep.reports import counts
from thumbnails.upkeep.reports.audit import audit
from thumbnails.upkeep.reports.overview import overview
from thumbnails.upkeep.runs import planning

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/thumbnails/cache/"
LIST = "/admin/thumbnails/imageasset/"


@pytest.fixture
def varied(make_asset: MakeAsset) -> list[ImageAsset]:
    """Two fresh, one stale, three missing, one failed."""
    made = [
        make_asset(pictures.jpeg(orientation=6)),
        make_asset(pictures.png(mode="P")),
        make_asset(),
        make_asset(pictures.truncated()),
    ]
    for asset in made[:3]:
        serving.serve(asset)
    with pytest.raises(NoThumbnail):
        serving.serve(made[3])
    ImageAsset.objects.filter(pk=made[2].pk).update(thumbnail_recipe="0123456789abcdef")
    for _ in range(3):
        make_asset(pictures.jpeg(orientation=3))
    return list(ImageAsset.objects.all())


@pytest.fixture
def large_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of assets is too many to be counted in a request."""
    monkeypatch.setattr(counts, "SMALL", -1)


def text_of(response: Any) -> str:
    assert response.status_code == HTTPStatus.OK
    return str(response.content.decode())


def section(page: str, name: str) -> str:
    found = re.search(rf'<section [^>]*id="overview-{name}".*?</section>', page, re.DOTALL)
    assert found is not None, f"the page has no section {name}"
    return found[0]


def words(html: str) -> str:
    """What people read, its spaces made simple."""
    text = unescape(re.sub(r"<(title|style)>.*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL))
    return re.sub(" ([.,])", r"\1", " ".join(text.split()))


def links(html: str) -> list[dict[str, str]]:
    """The filters of all links to the list of images."""
    urls = [urlsplit(unescape(url)) for url in re.findall(r'href="([^"]*)"', html)]
    return [
        {name: values[0] for name, values in parse_qs(url.query).items()}
        for url in urls
        if url.path == LIST
    ]


def staff_with(*permissions: str) -> Client:
    user = User.objects.create_user("other", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


# --- the numbers ----------------------------------------------------------------------------------


def test_overview__counts_what_there_is(varied: list[ImageAsset]) -> None:
    found = overview()
    states = Counter(asset.state for asset in varied)
    assert found.states == {state: states[state] for state in State}
    assert found.states == {"missing": 3, "fresh": 2, "stale": 1, "failed": 1, "accepted": 0}
    assert found.failures == {"unreadable": 1}
    assert found.recipe == recipe_in_force()
    assert found.recipes == {recipe_in_force().digest: 2, "0123456789abcdef": 1}
    assert found.originals is not None
    assert list(found.originals) == ["orientation", "format", "mode"]
    assert found.originals["orientation"] == {"1": 3, "3": 3, "6": 1}
    assert list(found.originals["format"].items()) == [("JPEG", 6), ("PNG", 1)]


def test_overview__has_files_and_bytes_by_shard(varied: list[ImageAsset]) -> None:
    found = overview()
    made = [asset for asset in varied if asset.thumbnail_path]
    assert found.files == len(made) == 3
    assert found.size_bytes == sum(asset.thumbnail_bytes or 0 for asset in made)
    assert found.mean_bytes == round(found.size_bytes / 3)
    assert found.shards is not None
    assert [shard.name for shard in found.shards] == list(SHARDS)
    by_name = {shard.name: shard for shard in found.shards}
    for asset in made:
        in_it = [other for other in made if shard_for(other.pk) == shard_for(asset.pk)]
        shard = by_name[shard_for(asset.pk)]
        assert shard.files == len(in_it)
        assert shard.size_bytes == sum(other.thumbnail_bytes or 0 for other in in_it)
        assert shard.oldest == min(
            other.thumbnail_generated_at for other in in_it if other.thumbnail_generated_at
        )


def test_overview__of_an_empty_site(queue_server: QueueServer) -> None:
    found = overview()
    assert found.states == dict.fromkeys(State, 0)
    assert found.failures == {}
    assert found.recipes == {recipe_in_force().digest: 0}
    assert (found.files, found.size_bytes, found.mean_bytes) == (0, 0, 0)
    assert found.runs == []


def test_overview__of_a_large_site_knows_nothing_until_it_was_counted(
    varied: list[ImageAsset], large_site: None
) -> None:
    found = overview()
    assert found.counted_at is None
    for name in ("states", "failures", "recipes", "shards", "originals"):
        assert getattr(found, name) is None
    while counts.count_due():
        pass
    found = overview()
    assert found.counted_at is not None
    assert found.files == 3


def test_overview__shows_the_last_runs_with_their_progress(varied: list[ImageAsset]) -> None:
    work(first := start_here())
    second = start_here()
    found = overview()
    assert [run for run, _ in found.runs] == [second, first]
    assert [progress.done for _, progress in found.runs] == [0, 7]
    assert found.runs[1][1].rate
    assert overview(with_runs=False).runs == []


def test_overview__counts_what_failed_in_a_run_and_reads_no_ids(
    varied: list[ImageAsset],
) -> None:
    work(start_here())
    ((_, progress),) = overview().runs
    assert progress.failed == 1
    assert progress.failures == {}


def test_overview__shows_ten_runs(make_asset: MakeAsset) -> None:
    make_asset()
    ids = [start_here().pk for _ in range(11)]
    assert [run.pk for run, _ in overview().runs] == ids[:0:-1]


def test_overview__of_a_cache_whose_disk_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise OSError

    assert overview().free_bytes is not None
    monkeypatch.setattr(planning, "free_bytes", fail)
    assert overview().free_bytes is None


def test_overview__of_a_deleted_cache_agrees_with_the_plan(
    staff_client: Client, varied: list[ImageAsset], thumbnail_dir: Path
) -> None:
    shutil.rmtree(thumbnail_dir)
    found = overview()
    assert found.states == {"missing": 5, "fresh": 0, "stale": 1, "failed": 1, "accepted": 0}
    assert found.states == planning.plan(Run.Kind.REGENERATE, ImageAsset.objects.all()).states
    assert found.files_seen is not None
    assert (found.files_seen.lost, found.files_seen.is_current) == (2, True)
    page = text_of(staff_client.get(PAGE))
    plan = f"{LIST}plan/regenerate/?state=missing%2Cfresh"
    assert f'href="{plan}"' in page
    assert "<strong>5</strong>: 5 missing" in text_of(staff_client.get(plan))


def test_overview__of_a_large_site_says_when_an_audit_looked(
    staff_client: Client, varied: list[ImageAsset], large_site: None, thumbnail_dir: Path
) -> None:
    while counts.count_due():
        pass
    shutil.rmtree(thumbnail_dir)
    page = text_of(staff_client.get(PAGE))
    assert "States are as the database has them: manage.py audit_thumbnails" in words(page)
    audit()
    found = overview()
    assert found.states == {"missing": 3, "fresh": 2, "stale": 1, "failed": 1, "accepted": 0}
    page = words(text_of(staff_client.get(PAGE)))
    assert "The cache’s files were looked at now, and states are as the database has them." in page
    assert "The files of 3 thumbnails were missing or cut short." in page


# --- queue and workers ----------------------------------------------------------------------------


def test_queue__counts_jobs_and_live_workers(worker: StartWorker) -> None:
    queue.enqueue([1, 2], bulk=True)
    waiting = {"thumbnails-now": 0, "thumbnails-bulk": 2}
    assert queue.use() == queue.QueueUse(waiting=waiting, workers=0)
    worker("thumbnails-now")
    assert queue.use().workers == 1


def test_queue__counts_no_worker_that_was_killed(
    worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = worker()
    started.kill()
    monkeypatch.setattr(queue, "SILENT_AT_MOST", timedelta(seconds=1))
    wait_for(lambda: queue.use().workers == 0, "the killed worker to be missed")


def test_page__says_how_many_wait_and_work(staff_client: Client, worker: StartWorker) -> None:
    queue.enqueue([1, 2, 3], bulk=True)
    said = words(section(text_of(staff_client.get(PAGE)), "queue"))
    assert "Running workers 0" in said
    assert "Jobs in thumbnails-bulk 3" in said
    assert "No worker is running" in said
    worker("thumbnails-now")
    said = words(section(text_of(staff_client.get(PAGE)), "queue"))
    assert "Running workers 1" in said
    assert "No worker is running" not in said


def test_page__with_the_queue_down_says_so_and_shows_the_rest(
    staff_client: Client, varied: list[ImageAsset], queue_server: QueueServer
) -> None:
    queue_server.kill()
    page = text_of(staff_client.get(PAGE))
    assert "The queue cannot be reached" in section(page, "queue")
    assert "Running workers" not in page
    assert "Stale 1" in words(section(page, "states"))


# --- the page -------------------------------------------------------------------------------------


def test_page__shows_states_that_lead_to_their_lists(
    staff_client: Client, varied: list[ImageAsset]
) -> None:
    part = section(text_of(staff_client.get(PAGE)), "states")
    assert words(part).endswith("Missing 3 Fresh 2 Stale 1 Failed 1 Accepted 0 All 7")
    assert 'aria-label="Missing: 3 of 7"' in part
    # The bar and its legend.
    in_bar = [state for state in State if state != State.ACCEPTED]
    assert links(part) == [{"state": state.value} for state in (*in_bar, *State)]
    rows = ImageAsset.objects.count_by_state()
    for state in State:
        listed = staff_client.get(LIST, {"state": state.value})
        assert listed.context["cl"].result_count == rows[state]


def test_page__bar_is_full_and_shows_also_what_is_rare(
    staff_client: Client, varied: list[ImageAsset], large_site: None
) -> None:
    while counts.count_due():
        pass
    states = CachedCount.objects.get(name="states")
    states.value["numbers"] = {"missing": 0, "fresh": 999_997, "stale": 2, "failed": 1}
    states.save()
    part = section(text_of(staff_client.get(PAGE)), "states")
    found = re.findall(r'<rect class="(\w+)" x="(\d+)" y="0" width="(\d+)"', part)
    bars = {name: (int(x), int(width)) for name, x, width in found}
    assert bars == {"fresh": (0, 976), "stale": (976, 12), "failed": (988, 12)}
    assert "Fresh 999,997" in words(part)
    assert "Fresh: 999,997 of 1,000,000" in part


def test_page__shows_files_bytes_and_free_space(
    staff_client: Client, varied: list[ImageAsset]
) -> None:
    said = words(section(text_of(staff_client.get(PAGE)), "store"))
    assert "Thumbnails 3" in said
    assert re.search(r"Together [\d.]+ (bytes|KB) Mean size [\d.]+ (bytes|KB)", said)
    assert re.search(r"Free space [\d.,]+ [GT]B", said)


def test_page__shows_failures_recipes_and_originals_with_their_lists(
    staff_client: Client, varied: list[ImageAsset]
) -> None:
    page = text_of(staff_client.get(PAGE))
    failures, recipes, originals = (
        section(page, name) for name in ("failures", "recipes", "originals")
    )
    assert "unreadable 1" in words(failures)
    assert links(failures) == [{"state": "failed", "reason": "unreadable"}]
    digest = recipe_in_force().digest
    label = label_of(recipe_in_force())
    assert f"In force: {label} ( {digest} )" in words(recipes)
    assert f"{label} (in force) 2 unknown, 0123456789abcdef 1" in words(recipes)
    assert links(recipes) == [{"recipe": digest}, {"recipe": "0123456789abcdef"}]
    assert "any but upright 4 1, upright 3 3, upside down 3 6, lies on its left side 1" in words(
        originals
    )
    assert "JPEG 6 PNG 1" in words(originals)
    assert {"orientation": "2-8"} in links(originals)
    assert {"format": "PNG"} in links(originals)
    assert {"mode": "P"} in links(originals)


def test_page__each_number_is_that_of_its_list(
    staff_client: Client, varied: list[ImageAsset]
) -> None:
    page = text_of(staff_client.get(PAGE))
    number = r'<(?:td|span) class="number">(?:<a href="([^"]*)"[^>]*>)?(\d+)\s*<'
    shown = re.findall(rf'href="([^"]*\?[^"]*)">[^<]*</a>[^/]*(?:</th>)?{number}', page)
    leading = [(unescape(url), int(text)) for url, _, text in shown]
    # A click on it leads to the plan over the same images, but where all of them are fresh.
    planned = {urlsplit(unescape(plan)).query for _, plan, _ in shown if plan}
    fresh = {"state=fresh", f"recipe={recipe_in_force().digest}"}
    assert planned == {urlsplit(url).query for url, number in leading if number} - fresh
    # All but those of the bar, in which states without images are not.
    in_bar = len(set(State) - {State.ACCEPTED})
    assert len(leading) == len(list(filter(None, links(page)))) - in_bar
    for url, images in leading:
        listed = staff_client.get(url)
        assert listed.status_code == HTTPStatus.OK, url
        assert len(listed.context["cl"].result_list) == images, url


def test_page__draws_the_shards_and_lists_them(
    staff_client: Client, varied: list[ImageAsset]
) -> None:
    part = section(text_of(staff_client.get(PAGE)), "shards")
    steps = re.findall(r'<rect class="step-(\d)" .*?<title>Shard (\w\w): (\d+) files?', part)
    assert [name for _, name, _ in steps] == list(SHARDS)
    for step, _, files in steps:
        assert (step == "0") == (files == "0")
    assert part.count('<th scope="row">') == len(SHARDS)
    shards = Counter(shard_for(asset.pk) for asset in varied if asset.thumbnail_path)
    for shard, files in shards.items():
        assert f"{shard} {files}" in words(part)


def test_page__shows_the_shards_by_age(staff_client: Client, varied: list[ImageAsset]) -> None:
    old = varied[0]
    made_at = timezone.now() - timedelta(days=730, hours=1)
    ImageAsset.objects.filter(pk=old.pk).update(thumbnail_generated_at=made_at)
    part = section(text_of(staff_client.get(PAGE, {"heat": "age"})), "shards")
    steps = {
        name: step for step, name in re.findall(r'class="step-(\d)" .*?<title>Shard (\w\w)', part)
    }
    assert steps[shard_for(old.pk)] == "9"
    assert {step for name, step in steps.items() if name != shard_for(old.pk)} <= {"0", "1"}
    assert "The strongest colour: 2 years ago" in words(part)
    assert '<a href="?heat=age#overview-shards" aria-current="true">' in part
    assert text_of(staff_client.get(PAGE, {"heat": "nonsense"}))


def test_page__shows_the_last_runs(staff_client: Client, varied: list[ImageAsset]) -> None:
    work(done := start_here())
    waiting = start_here()
    Run.objects.filter(pk=done.pk).update(
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        finished_at=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC),
    )
    part = section(text_of(staff_client.get(PAGE)), "runs")
    assert f'href="/admin/thumbnails/run/{done.pk}/change/"' in part
    assert f"{done} Regenerate Done 7 of 7 (100 %), 1 failed 3.5/s" in words(part)
    assert f"{waiting} Regenerate Running 0 of 7 (0 %) –" in words(part)
    assert part.count("<rect") == 1
    assert f"<title>{done}: 3.5 images a second</title>" in part


def test_page__tells_accepted_failures_apart(
    staff_client: Client, varied: list[ImageAsset], queue_server: QueueServer
) -> None:
    accept_failures(ImageAsset.objects.all())
    part = section(text_of(staff_client.get(PAGE)), "failures")
    assert "None that is not accepted. 1 accepted" in words(part)
    assert '?state=accepted"' in part


def test_page__of_an_empty_site(staff_client: Client, queue_server: QueueServer) -> None:
    page = text_of(staff_client.get(PAGE))
    assert "There are no images yet" in section(page, "states")
    assert "Mean size –" in words(section(page, "store"))
    assert "None." in section(page, "failures")
    assert "There are no thumbnails yet" in section(page, "shards")
    assert "There are no runs yet" in section(page, "runs")


def test_page__of_a_large_site_says_that_it_is_being_counted(
    staff_client: Client, varied: list[ImageAsset], large_site: None
) -> None:
    page = text_of(staff_client.get(PAGE))
    assert "Some numbers of all images are being counted" in page
    assert not CachedCount.objects.exists()
    for name in ("states", "failures", "recipes", "shards", "originals", "store"):
        assert "being counted" in section(page, name).lower()
    while counts.count_due():
        pass
    CachedCount.objects.filter(name="shards").update(
        counted_at=timezone.now() - timedelta(minutes=5)
    )
    page = text_of(staff_client.get(PAGE))
    assert "being counted" not in page.lower()
    assert "The numbers of all images were counted 5 minutes ago." in words(page)


def test_page__after_a_change_of_recipe_counts_states_anew(
    staff_client: Client, varied: list[ImageAsset], large_site: None, settings: Settings
) -> None:
    while counts.count_due():
        pass
    settings.THUMBNAIL_QUALITY = 70
    page = text_of(staff_client.get(PAGE))
    assert "Being counted" in section(page, "states")
    assert "quality 70" in words(section(page, "recipes"))
    assert f"{label_of(recipe_in_force())} (in force) 0" in words(section(page, "recipes"))


def test_page__queries_do_not_grow_with_its_rows(
    staff_client: Client,
    varied: list[ImageAsset],
    make_asset: MakeAsset,
    queue_server: QueueServer,
    large_site: None,
) -> None:
    def queries() -> int:
        while counts.count_due():
            pass
        with CaptureQueriesContext(connection) as captured:
            staff_client.get(PAGE)
        return len(captured)

    work(start_here())
    before = queries()
    for number in range(20):
        asset = make_asset(pictures.jpeg(orientation=number % 8 + 1))
        serving.serve(asset)
        ImageAsset.objects.filter(pk=asset.pk).update(thumbnail_recipe=f"{number:016}")
        run = start_here()
        if number % 2 == 0:
            work(run)
    CachedCount.objects.all().delete()
    assert queries() == before <= 9


def test_page__localizes_no_coordinate(
    staff_client: Client, varied: list[ImageAsset], settings: Settings
) -> None:
    work(start_here())
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True
    page = text_of(staff_client.get(PAGE))
    shapes = re.findall(r"<(?:rect|svg|text) [^>]*>", page)
    numbers = re.findall(r' (?:x|y|width|height)="([^"]*)"', " ".join(shapes))
    assert numbers
    assert all(re.fullmatch(r"-?\d+", number) or number == "1.5rem" for number in numbers)


# --- who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "permission", ["view_imageasset", "regenerate_thumbnails", "purge_thumbnails"]
)
def test_page__is_for_users_who_may_view_or_start_something(
    varied: list[ImageAsset], permission: str
) -> None:
    client = staff_with(permission)
    assert PAGE in text_of(client.get("/admin/"))
    page = text_of(client.get(PAGE))
    assert ("Regenerate all that is not fresh" in page) == (permission == "regenerate_thumbnails")
    assert ("Purge everything" in page) == (permission == "purge_thumbnails")
    assert ("regenerate/?" in page) == (permission == "regenerate_thumbnails")
    listed = client.get(LIST).status_code == HTTPStatus.OK
    assert bool(links(page)) == listed
    shown = client.get("/admin/thumbnails/run/").status_code == HTTPStatus.OK
    assert ('id="overview-runs"' in page) == shown


def test_page__leads_to_the_plans(staff_client: Client) -> None:
    page = text_of(staff_client.get(PAGE))
    for kind in ("regenerate", "purge"):
        plan = f"/admin/thumbnails/imageasset/plan/{kind}/"
        assert f'href="{plan}"' in page
        assert text_of(staff_client.get(plan))


@pytest.mark.parametrize("permissions", [(), ("view_trainingsession",), ("view_run",)])
def test_index__does_not_link_to_it_for_others(permissions: tuple[str, ...]) -> None:
    assert PAGE not in text_of(staff_with(*permissions).get("/admin/"))


def test_page__has_no_pages_for_single_images(
    admin_client: Client, varied: list[ImageAsset]
) -> None:
    for below in ("add/", f"{varied[0].pk}/change/", f"{varied[0].pk}/delete/"):
        assert admin_client.get(PAGE + below).status_code == HTTPStatus.NOT_FOUND
    assert ImageAsset.objects.count() == len(varied)

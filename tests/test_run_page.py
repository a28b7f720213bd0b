"""The page of a run in the admin, the part of it that moves, and the list of runs."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests import pictures
from tests.conftest import MakeAsset, StartWorker
from tests.runs import start_run, work
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails import jobs
from thumbnails.admin import run_report as run_report_pages
from thumbnails.exceptions import NotDispatched
from thumbnails.models import Chunk, ImageAsset, Run
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.reports import health, run_report
from thumbnails.upkeep.reports.formatting import duration
from thumbnails.upkeep.runs import control, starting
from thumbnails.upkeep.selection.conditions import Selection

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/thumbnails/run/"


def start(*, by: User | None = None, leased: bool = True, note: str = "") -> Run:
    """A run, also where the queue is down."""
    try:
        return start_run(by=by, note=note, leased=leased)
    except NotDispatched as error:
        return error.run


def page(client: Client, run: Run) -> str:
    return text_of(client.get(f"{LIST}{run.pk}/change/"))


def progress(client: Client, run: Run) -> str:
    return text_of(client.get(f"{LIST}{run.pk}/progress/"))


def text_of(response: Any) -> str:
    assert response.status_code == HTTPStatus.OK
    return str(response.content.decode())


def press(client: Client, run: Run, verb: str, **data: str) -> str:
    return text_of(client.post(f"{LIST}{run.pk}/act/{verb}/", data, follow=True))


# --- the page -------------------------------------------------------------------------------------


def test_page__tells_who_when_why_and_over_what(
    staff_client: Client, staff: User, make_asset: MakeAsset
) -> None:
    make_asset()
    staff.first_name, staff.last_name = "Ada", "Bell"
    staff.save()
    text = page(staff_client, start(by=staff, note="The renderer was <fixed>"))
    assert "Ada Bell" in text
    assert "The renderer was &lt;fixed&gt;" in text
    assert "all images" in text
    assert "0 of 1 (0" in text


def test_page__groups_failures_with_examples_and_their_thumbnails(
    staff_client: Client, make_asset: MakeAsset, originals_dir: Any
) -> None:
    broken = [make_asset(pictures.truncated(), name=f"broken-{n}.jpg") for n in range(7)]
    gone = make_asset(name="gone.jpg")
    whole = (originals_dir / "gone.jpg").rename(originals_dir / "moved.jpg")
    work(run := start())
    whole.rename(originals_dir / "gone.jpg")
    serving.render_now(gone.pk)
    text = page(staff_client, run)
    assert "7 failed: unreadable" in text
    assert "1 failed: source missing" in text
    assert sum(f">{asset}</a>" in text for asset in broken) == 5
    assert f'href="{LIST}{run.pk}/report/?reason=unreadable"' in text
    assert ">All 7</a>" in text
    assert "reason=source_missing" not in text  # all of it is shown
    gone.refresh_from_db()
    assert f'src="{gone.thumbnail_url}"' in text
    assert len(re.findall('<img class="thumbnail"', text)) == 1  # the broken ones have none
    assert 'name="reason" value="unreadable"' in text


def test_page__shows_the_log_with_who(
    staff_client: Client, staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    run = start(by=staff)
    press(staff_client, run, "cancel")
    press(staff_client, run, "resume")
    log = page(staff_client, run).split('id="log-heading"')[1]
    assert re.findall(r"<td>(Started|Cancelled|Resumed)</td><td>(\w+)</td>", log) == [
        ("Started", "staff"),
        ("Cancelled", "staff"),
        ("Resumed", "staff"),
    ]


def test_page__names_others_that_do_the_same(
    staff_client: Client, staff: User, make_asset: MakeAsset
) -> None:
    make_asset()
    bob = User.objects.create_user("bob", first_name="Bob")
    theirs, ours = start(by=bob), start(by=staff)
    other_scope = start()
    Run.objects.filter(pk=other_scope.pk).update(scope={"session": "A"})
    text = page(staff_client, ours)
    assert f">Run {theirs.pk}</a>, started by Bob, does the same." in text
    assert f"Run {other_scope.pk}" not in text
    work(theirs)
    assert "does the same" not in page(staff_client, ours)


def test_page__works_without_javascript(staff_client: Client, make_asset: MakeAsset) -> None:
    make_asset()
    run = start()
    assert "<noscript>" in page(staff_client, run)
    work(run)
    text = page(staff_client, run)
    assert "<noscript>" not in text
    assert "1 of 1 (100" in text


def test_page__queries_do_not_grow(
    staff_client: Client,
    make_asset: MakeAsset,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(12):
        make_asset(pictures.truncated())
    work(run := start())
    with django_assert_max_num_queries(12):
        page(staff_client, run)


def test_page__of_a_run_that_another_goes_on_with_offers_no_resume(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    make_asset()

    def begin() -> Run:
        run = starting.start_or_continue(Run.Kind.REGENERATE, Selection())
        assert run is not None
        return run

    old = begin()
    Run.objects.filter(pk=old.pk).update(lease_until=None)
    control.pause(old, "Stopped by SIGINT.")
    assert "/act/resume/" in page(staff_client, old)
    new = begin()
    shown = page(staff_client, old)
    assert "Cancelled</strong>: The same command was started again" in shown
    assert "SIGINT" not in report(staff_client, old)
    assert "/act/resume/" not in shown
    assert f"{new} is over the same images" in press(staff_client, old, "resume")


# --- the part that moves --------------------------------------------------------------------------


def test_report__has_failures_and_costs_at_most_nine_queries(
    staff_client: Client,
    staff: User,
    make_asset: MakeAsset,
    queue_server: QueueServer,
    small_chunks: None,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(10):
        make_asset(pictures.truncated(), name=f"broken-{number}.jpg")
        make_asset()
    run = start(by=staff, leased=False)
    for chunk in run.chunks.all()[:10]:
        jobs.work_chunk(chunk.pk)
    Chunk.objects.filter(pk=run.chunks.all()[0].pk).update(rendered=1_201)
    with django_assert_max_num_queries(9):
        text = progress(staff_client, run)
    assert "<td>1,2" in text
    assert "<td>5: 5 unreadable</td>" in text
    assert "5 failed: unreadable" in text
    assert text.count("broken-") == 5
    assert 'data-over="no"' in text


def test_report__tells_rate_and_time_left(
    staff_client: Client, make_asset: MakeAsset, small_chunks: None
) -> None:
    for _ in range(4):
        make_asset()
    run = start()
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now() - timedelta(seconds=50))
    jobs.work_chunk(run.chunks.all()[0].pk)
    text = progress(staff_client, run)
    assert "1.2 images a minute" in text
    assert re.search(r"about 2 minutes left|about 3 minutes left|about 150 seconds", text)


def test_report__of_a_run_that_there_is_not(staff_client: Client) -> None:
    assert staff_client.get(f"{LIST}999/progress/").status_code == HTTPStatus.NOT_FOUND


# --- when nothing moves ---------------------------------------------------------------------------


def test_queue_down__is_said_and_resume_offered(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    queue_server.kill()
    run = start(leased=False)
    text = page(staff_client, run)
    assert "The queue cannot be reached" in text
    assert 'data-state="running, no queue"' in text
    assert f"{LIST}{run.pk}/act/resume/" in text
    assert "queue cannot be reached" in press(staff_client, run, "resume")
    queue_server.start()
    assert f"Run {run.pk} goes on with what is left" in press(staff_client, run, "resume")
    with queue_server.client as client:
        assert client.llen("rq:queue:thumbnails-now") == 1
    press(staff_client, run, "resume")  # again: it is in the queue already
    with queue_server.client as client:
        assert client.llen("rq:queue:thumbnails-now") == 1
    assert f"{LIST}{run.pk}/act/resume/" not in page(staff_client, run)


def test_no_worker__is_said_until_one_lives_or_a_command_works(
    staff_client: Client, make_asset: MakeAsset, worker: StartWorker, queue_server: QueueServer
) -> None:
    make_asset()
    run = start(leased=False)
    assert "No worker is running" in progress(staff_client, run)
    assert "No worker" not in progress(staff_client, start(leased=True))
    worker()
    left = start(leased=True)
    Run.objects.filter(pk=left.pk).update(lease_until=None)
    wait_for(lambda: "No worker" not in progress(staff_client, left), "the worker to be seen")


def test_no_worker_of_its_recipe__is_said(make_asset: MakeAsset, queue_server: QueueServer) -> None:
    make_asset()
    run = start(leased=False)
    run.recipe = "0ld"
    of_others = queue.QueueUse(waiting={}, workers=1)
    said = health.why_it_stands_still(run, of_others)
    assert "No worker has this run's recipe (0ld)" in said
    queue.note_worker_of("0ld")
    assert health.why_it_stands_still(run, of_others) == ""


def test_purge__may_be_done_by_workers_of_any_recipe(
    make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    run = start(leased=False)
    Run.objects.filter(pk=run.pk).update(kind=Run.Kind.PURGE)
    run.refresh_from_db()
    of_others = queue.QueueUse(waiting={}, workers=1)
    assert health.why_it_stands_still(run, of_others) == ""


# --- the list -------------------------------------------------------------------------------------


def test_list__shows_progress_rate_and_people_in_a_constant_number_of_queries(
    staff_client: Client,
    staff: User,
    make_asset: MakeAsset,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    make_asset()
    make_asset(pictures.truncated())
    finished = start(by=staff, note="after the fix")
    work(finished)
    for _ in range(15):
        start(by=User.objects.create_user(f"user-{Run.objects.count()}"))
    with django_assert_max_num_queries(9):
        text = text_of(staff_client.get(LIST))
    assert f'<progress max="100" value="100" aria-label="Progress of Run {finished.pk}">' in text
    assert "2 of 2, 1 failed" in text
    assert re.search(r"\d images a (second|minute)", text)
    assert "after the fix" in text
    assert "user-9" in text


def test_pages__separate_thousands_in_numbers_and_not_in_ids(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    make_asset()
    # The bar of states is as wide as a thousand where all images have one state.
    assert 'width="1000"' in text_of(staff_client.get("/admin/thumbnails/cache/"))
    work(run := start())
    Chunk.objects.filter(run=run).update(rendered=12_345)
    Run.objects.filter(pk=run.pk).update(total=12_345)
    others = (Run(kind=run.kind, state=Run.State.DONE, origin=run.origin) for _ in range(1_000))
    Run.objects.bulk_create(others)
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{n}.jpg") for n in range(1_233))
    assert "<td>12,345</td>" in page(staff_client, run)
    assert "12,345 of 12,345" in page(staff_client, run)
    assert "1,001 runs" in text_of(staff_client.get(LIST))  # Django's own, as
    assert "1,234 image assets" in text_of(staff_client.get("/admin/thumbnails/imageasset/"))
    newest = Run.objects.latest("pk")
    assert newest.pk > 999
    for path in ("change/", "report/"):
        assert f"{newest.pk:,}" not in text_of(staff_client.get(f"{LIST}{newest.pk}/{path}"))


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (90, "90 seconds"),
        (150, "2 minutes"),
        (7_000, "117 minutes"),
        (7_300, "2 hours"),
        (400_000, "5 days"),
    ],
)
def test_duration__in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# --- its report -----------------------------------------------------------------------------------


def report(client: Client, run: Run, query: str = "") -> str:
    return text_of(client.get(f"{LIST}{run.pk}/report/{query}"))


def streamed(client: Client, run: Run, ending: str) -> Any:
    response: Any = client.get(f"{LIST}{run.pk}/report.{ending}")
    assert response.status_code == HTTPStatus.OK
    assert (
        response.headers["Content-Disposition"] == f'attachment; filename="run-{run.pk}.{ending}"'
    )
    return b"".join(response.streaming_content).decode()


def test_report__lists_what_became_of_the_images(
    staff_client: Client,
    make_asset: MakeAsset,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_asset(name="<one>.jpg")
    make_asset(pictures.truncated(), name="two.jpg")
    make_asset(name="three.jpg").delete()
    work(run := start())
    assert f'href="{LIST}{run.pk}/report/"' in page(staff_client, run)
    # Of the user five, the run, two of its progress, and as many of the page as of the comparison.
    with django_assert_num_queries(11):
        text = report(staff_client, run)
    assert "1 rendered, 1 failed (1 unreadable)" in text
    assert "&lt;one&gt;.jpg" in text
    assert "no change" in text
    text = report(staff_client, run, "?outcome=failed")
    assert "two.jpg" in text
    assert "&lt;one&gt;" not in text
    assert "two.jpg" in report(staff_client, run, "?reason=unreadable")

    monkeypatch.setattr(run_report_pages, "SHOWN", 1)
    text = report(staff_client, run)
    assert "two.jpg" not in text
    (after,) = re.findall(r"\?after=([0-9-]+)", text)
    assert "two.jpg" in report(staff_client, run, f"?after={after}")
    for query in "?after=1", "?outcome=lost", "?reason=none":
        refused = staff_client.get(f"{LIST}{run.pk}/report/{query}")
        assert refused.status_code == HTTPStatus.BAD_REQUEST
    assert staff_client.get(f"{LIST}999/report/").status_code == HTTPStatus.NOT_FOUND


def test_report__of_a_large_run_is_compared_with_now_when_that_is_asked_for(
    staff_client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_report, "COMPARED_AT_MOST", 0)
    make_asset()
    work(run := start())
    assert "no change" not in report(staff_client, run)
    assert 'href="?now=1"' in report(staff_client, run)
    assert "no change" in report(staff_client, run, "?now=1")


def test_report__is_downloaded(staff_client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(name="one.jpg")
    work(run := start())
    asset.refresh_from_db()
    (row,) = csv.DictReader(io.StringIO(streamed(staff_client, run, "csv")))
    assert row["url"] == f"http://testserver{asset.thumbnail_url}"
    assert json.loads(streamed(staff_client, run, "json"))["images"] == [
        {**row, "id": asset.pk, "name": "one.jpg"}
    ]

"""Failures that staff accept: runs skip them, until the original changes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset, RunCommand
from tests.runs import start_here, work
from thumbnails.exceptions import NoThumbnail
from thumbnails.models import ImageAsset, Run, State
from thumbnails.rendering.pool import RenderPool
from thumbnails.upkeep.images import freshness, serving
from thumbnails.upkeep.images.acceptance import accept_failures, undo_acceptance
from thumbnails.upkeep.runs import execute, planning, starting

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/thumbnails/imageasset/"


@pytest.fixture
def broken(make_asset: MakeAsset) -> ImageAsset:
    """An image whose original cannot be rendered."""
    asset = make_asset(pictures.truncated(), name="broken.jpg")
    with pytest.raises(NoThumbnail):
        serving.serve(asset)
    return current(asset)


@pytest.fixture
def accepted(broken: ImageAsset) -> ImageAsset:
    assert len(accept_failures(ImageAsset.objects.all())) == 1
    return current(broken)


def current(asset: ImageAsset) -> ImageAsset:
    """The row as it is now, whose state is the one that queries find it by."""
    now = ImageAsset.objects.get(pk=asset.pk)
    assert list(ImageAsset.objects.in_state(now.state).filter(pk=now.pk)) == [now]
    assert sum(ImageAsset.objects.count_by_state().values()) == ImageAsset.objects.count()
    return now


def outcomes(run: Run) -> dict[str, int]:
    work(run)
    return {word: number for word, number in run.progress().outcomes.items() if number}


def test_accepted__is_skipped_by_runs_and_has_no_thumbnail(
    accepted: ImageAsset, make_asset: MakeAsset
) -> None:
    assert accepted.state == State.ACCEPTED
    good = make_asset()
    assert list(ImageAsset.objects.not_fresh()) == [good]
    plan = planning.plan(Run.Kind.REGENERATE, ImageAsset.objects.all())
    assert (plan.total, plan.accepted) == (1, 1)
    with pytest.raises(NoThumbnail):
        serving.serve(accepted)


def test_accepted__while_a_run_is_under_way_is_not_tried(
    broken: ImageAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_here()
    accept_failures(ImageAsset.objects.all())
    monkeypatch.delattr(RenderPool, "render")
    assert outcomes(run) == {"accepted": 1}
    assert (run.state, run.progress().failures) == (Run.State.DONE, {})


def test_forced_run__tries_it_and_counts_it_apart(accepted: ImageAsset) -> None:
    assert outcomes(start_here(force=True)) == {"accepted": 1}
    now = current(accepted)
    assert now.state == State.ACCEPTED
    latest, first = now.thumbnail_history
    assert (latest["outcome"], latest["reason"]) == ("failed", "unreadable")
    assert "run" in latest
    assert "run" not in first


def test_another_recipe__is_tried_once_and_stays_accepted(
    accepted: ImageAsset, settings: Settings
) -> None:
    settings.THUMBNAIL_QUALITY = 70
    assert current(accepted).state == State.MISSING
    assert outcomes(start_here()) == {"accepted": 1}
    assert current(accepted).state == State.ACCEPTED
    assert not ImageAsset.objects.not_fresh().exists()


def test_changed_original__undoes_it(accepted: ImageAsset, originals_dir: Path) -> None:
    path = originals_dir / "broken.jpg"
    path.write_bytes(pictures.truncated())
    os.utime(path, (1, 1))
    assert outcomes(start_here(force=True)) == {"failed": 1}
    assert current(accepted).state == State.FAILED


def test_rendered__ends_it(accepted: ImageAsset, settings: Settings, originals_dir: Path) -> None:
    """A picture that was rendered and fails later is no known failure."""
    path, before = originals_dir / "broken.jpg", (originals_dir / "broken.jpg").stat()
    path.write_bytes(pictures.jpeg().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcomes(start_here(force=True))
    now = current(accepted)
    assert (now.accepted_source, now.source_version) == (None, accepted.source_version)


def test_purged__stays_accepted_when_it_fails_again(accepted: ImageAsset) -> None:
    outcomes(start_here(Run.Kind.PURGE))
    assert current(accepted).state == State.MISSING
    assert outcomes(start_here()) == {"accepted": 1}


def test_failure_of_a_storage__cannot_be_accepted(broken: ImageAsset, accepted: ImageAsset) -> None:
    ImageAsset.objects.update(thumbnail_error="storage_error")
    assert current(accepted).state == State.FAILED
    assert accept_failures(ImageAsset.objects.all()) == []


def test_missing_original__without_a_version_can_be_accepted(
    make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="gone.jpg")
    (originals_dir / "gone.jpg").unlink()
    ImageAsset.objects.update(source_version="")
    assert outcomes(start_here()) == {"failed": 1}
    accept_failures(ImageAsset.objects.all())
    assert current(asset).state == State.ACCEPTED
    undo_acceptance(ImageAsset.objects.all())
    assert current(asset).state == State.FAILED


def test_retry__leaves_out_what_is_accepted_meanwhile(
    broken: ImageAsset, make_asset: MakeAsset
) -> None:
    other = make_asset(pictures.truncated())
    run = start_here()
    assert outcomes(run) == {"failed": 2}
    accept_failures(ImageAsset.objects.filter(pk=broken.pk))
    again = starting.retry(run, origin=Run.Origin.COMMAND, leased=True)
    assert [chunk.asset_ids for chunk in again.chunks.all()] == [[other.pk]]


def test_accepting__makes_a_result_void_that_is_based_on_the_row_before(
    broken: ImageAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_here()
    began, accepted = threading.Event(), threading.Event()
    real = freshness.refresh

    def refresh(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        began.set()
        assert accepted.wait(60)
        return result

    monkeypatch.setattr(freshness, "refresh", refresh)

    def accept() -> None:
        try:
            began.wait(60)
            accept_failures(ImageAsset.objects.all())
        finally:
            accepted.set()
            connection.close()

    other = threading.Thread(target=accept)
    other.start()
    assert outcomes(run) == {"accepted": 1}
    other.join()
    assert current(broken).state == State.ACCEPTED


def test_command__accepts_and_undoes_what_is_selected(
    run_command: RunCommand, broken: ImageAsset, make_asset: MakeAsset
) -> None:
    make_asset()
    refused = run_command("accept_failures")
    assert (refused.returncode, "Say which failures" in refused.stderr) == (2, True)
    dry = run_command("accept_failures", "--reason", "unreadable", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"dryRun": True, "accepted": 1}
    assert current(broken).state == State.FAILED
    done = run_command("accept_failures", "--reason", "unreadable")
    assert (done.returncode, done.stdout) == (
        0,
        "1 failure is accepted, until the original changes.\n",
    )
    rendered = run_command("regenerate_thumbnails")
    assert (rendered.returncode, "1 rendered." in rendered.stdout) == (0, True)
    again = run_command("regenerate_thumbnails")
    assert (again.returncode, again.stdout) == (
        0,
        "Nothing to do: every thumbnail is fresh, but for 1 accepted failure.\n",
    )
    assert "Accepted" in run_command("thumbnail_stats").stdout
    nothing = run_command("accept_failures", "--reason", "unreadable")
    assert nothing.stdout == "Nothing to do: no failures match: failed as unreadable.\n"
    undone = run_command("accept_failures", "--undo", "--state", "accepted")
    assert undone.stdout == "1 failure is no longer accepted.\n"
    assert run_command("regenerate_thumbnails").returncode == 1


def test_admin__accepts_and_undoes_in_list_and_page(
    staff_client: Client, broken: ImageAsset
) -> None:
    page = f"{LIST}{broken.pk}/change/"
    verbs = {"accept": State.ACCEPTED, "undo": State.FAILED}
    for verb, state in verbs.items():
        url = f"{LIST}{broken.pk}/{verb}/"
        assert f'action="{url}"' in staff_client.get(page).content.decode()
        said = staff_client.post(url, follow=True).content.decode()
        assert "1 failure is" in said
        assert current(broken).state == state
    for action, state in zip(("accept_failures", "undo_acceptance"), verbs.values(), strict=True):
        sent = {"action": action, ACTION_CHECKBOX_NAME: [str(broken.pk)]}
        assert "1 failure is" in staff_client.post(LIST, sent, follow=True).content.decode()
        assert current(broken).state == state
    logged = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    accepted, undone = "accepted, until the original changes.", "no longer accepted."
    expected = [(str(broken.pk), f"1 failure is {how}") for how in (accepted, undone)]
    assert list(logged) == 2 * expected


def test_admin__accepts_what_failed_in_a_run_and_still_does(
    staff_client: Client, broken: ImageAsset, make_asset: MakeAsset, originals_dir: Path
) -> None:
    gone = make_asset(name="gone.jpg")
    file = originals_dir / "gone.jpg"
    content = file.read_bytes()
    file.unlink()
    outcomes(run := start_here(force=True))
    file.write_bytes(content)
    serving.render_now(gone.pk)
    url = f"/admin/thumbnails/run/{run.pk}/act/accept/"
    shown = staff_client.get(f"/admin/thumbnails/run/{run.pk}/change/").content.decode()
    assert f'action="{url}"' in shown
    shown = staff_client.post(url, follow=True).content.decode()
    assert "1 failure is accepted, until the original changes." in shown
    assert f'action="{url}"' not in shown
    assert (current(broken).state, current(gone).state) == (State.ACCEPTED, State.FRESH)
    logged = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    text = "1 failure is accepted, until the original changes."
    assert list(logged) == [(str(broken.pk), f"{text} It failed in {run}."), (str(run.pk), text)]


def test_missing_originals__that_are_accepted_do_not_make_a_disk_seem_away(
    make_asset: MakeAsset, originals_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        make_asset(name=name)
        (originals_dir / name).unlink()
    outcomes(start_here())
    accept_failures(ImageAsset.objects.all())
    limits = {name: (why, 2, text) for name, (why, _, text) in execute.IN_A_ROW.items()}
    monkeypatch.setattr(execute, "IN_A_ROW", limits)
    assert outcomes(start_here(force=True)) == {"accepted": 3}

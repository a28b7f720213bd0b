"""The operators' commands: their output and exit status."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
from pytest_django import Settings

from tests import pictures, warm
from tests.conftest import MakeAsset, Manage, RunCommand, StartWorker
from tests.processes import ROOT, call_command
from tests.runs import start_here, work
from tests.servers import QueueServer
from tests.waiting import is_alive, wait_for
from thumbnails.exceptions import NoThumbnail
from thumbnails.management.commands import thumbnail_stats
from thumbnails.models import Chunk, ImageAsset, Run, State
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.reports import run_report

pytestmark = pytest.mark.django_db(transaction=True)


def as_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def outcomes(done: subprocess.CompletedProcess[str]) -> tuple[int, int, int]:
    report = as_json(done)
    return report["rendered"], report["fresh"], report["failed"]


# --- regenerate_thumbnails ------------------------------------------------------------------------


def test_regenerate__mends_what_is_not_fresh(
    run_command: RunCommand, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    fresh, lost = make_asset(), make_asset()
    for asset in (fresh, lost):
        serving.serve(asset)
    (thumbnail_dir / lost.thumbnail_name).unlink()
    make_asset()
    done = run_command("regenerate_thumbnails", "--json")
    assert done.returncode == 0, done.stderr
    assert outcomes(done) == (2, 0, 0)
    assert ImageAsset.objects.fresh().count() == 3
    again = run_command("regenerate_thumbnails")
    assert again.returncode == 0
    assert "every thumbnail is fresh" in again.stdout


def test_regenerate__failures_are_named_and_exit_with_1(
    manage: Manage, make_asset: MakeAsset
) -> None:
    make_asset()
    broken = make_asset(pictures.truncated(), name="broken.jpg")
    done = manage("regenerate_thumbnails")
    assert done.returncode == 1
    assert "1 rendered, 1 failed" in done.stdout
    assert "unreadable: 1" in done.stdout
    assert f"{broken.pk} broken.jpg" in done.stdout
    assert "Traceback" not in done.stderr


def test_regenerate__force_renders_all(run_command: RunCommand, make_asset: MakeAsset) -> None:
    serving.serve(make_asset())
    make_asset()
    assert outcomes(run_command("regenerate_thumbnails", "--force", "--json")) == (2, 0, 0)


def test_regenerate__selects(run_command: RunCommand, make_asset: MakeAsset) -> None:
    assets = [make_asset(session="A" if n < 2 else "") for n in range(5)]
    first, last = assets[0].pk, assets[-1].pk
    ImageAsset.objects.filter(pk=last).update(created_at="2026-03-31T12:00:00Z")

    def selected(*arguments: str) -> int:
        done = run_command("regenerate_thumbnails", "--dry-run", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return int(as_json(done)["total"])

    assert selected() == 5
    assert selected("--ids", f"{first},{last}") == 2
    assert selected("--ids", f"{first}-{last + 100}") == 5
    assert selected("--session", "A") == 2
    assert selected("--session-id", str(assets[0].session_ids[0])) == 2
    assert selected("--from-date", "2026-03-31", "--to-date", "2026-03-31") == 1
    assert selected("--session", "A", "--ids", str(first)) == 1
    assert not Run.objects.exists()
    assert ImageAsset.objects.missing().count() == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ids", "99999"], "There is no image with the id 99999"),
        (["--ids", "5-1"], "ends before it begins"),
        (["--ids", "1,,2"], "is neither a number nor a range"),
        (["--ids", "0"], "is neither a number nor a range"),
        (["--session", "nobody"], "There is no session named 'nobody'"),
        (["--from-date", "2026-02-30"], "is not a date"),
        (["--from-date", "2026-02-02", "--to-date", "2026-02-01"], "before they begin"),
        (["--workers", "0"], "is not a whole number over 0"),
        (["--wait"], "goes with --enqueue"),
        (["--rate", "fast"], "is not a rate"),
        (["--rate", "0/s"], "is not a rate"),
        (["--enqueue", "--workers", "2"], "does not go with --enqueue"),
        (["--frobnicate"], "unrecognized arguments"),
    ],
)
def test_regenerate__wrong_usage_is_one_sentence_and_exit_2(
    run_command: RunCommand, make_asset: MakeAsset, arguments: list[str], sentence: str
) -> None:
    make_asset()
    done = run_command("regenerate_thumbnails", *arguments)
    assert done.returncode == 2
    reason, *hint = done.stderr.splitlines()
    assert sentence in reason
    assert hint in ([], ["Its options: manage.py regenerate_thumbnails --help"])
    assert not Run.objects.exists()


def start_long_regeneration(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A command that has done some of its images, and takes seconds for the rest."""
    command = ["regenerate_thumbnails", "--force", "--workers", "2", "--rate", "20/s"]
    process = subprocess.Popen(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: Chunk.objects.filter(rendered__gt=0).exists(), "the first images")
    return process


def make_many(make_asset: MakeAsset, originals_dir: Path, number: int) -> None:
    first = make_asset(pictures.png(), name="0.png")
    for n in range(1, number):
        os.link(originals_dir / "0.png", originals_dir / f"{n}.png")
    ImageAsset.objects.bulk_create(
        ImageAsset(original=f"{n}.png", source_version=first.source_version)
        for n in range(1, number)
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_regenerate__interrupted_goes_on_where_it_stopped(
    run_command: RunCommand,
    make_asset: MakeAsset,
    originals_dir: Path,
    process_environment: dict[str, str],
    number: signal.Signals,
) -> None:
    make_many(make_asset, originals_dir, 120)
    process = start_long_regeneration(process_environment)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"the same command goes on" in errors
    assert not any(is_alive(child) for child in family)
    run = Run.objects.get()
    assert run.state == Run.State.PAUSED
    done_before = run.progress().done
    assert 0 < done_before < 120
    Run.objects.update(rate=None)
    again = run_command("regenerate_thumbnails", "--force", "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert f"Going on with Run {run.pk}: {done_before} of 120" in again.stderr
    assert Run.objects.count() == 1
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert run.progress().rendered == 120


def test_regenerate__a_process_of_it_that_dies_is_replaced(
    make_asset: MakeAsset, originals_dir: Path, process_environment: dict[str, str]
) -> None:
    make_many(make_asset, originals_dir, 120)
    process = start_long_regeneration(process_environment)
    psutil.Process(process.pid).children()[0].kill()
    Run.objects.update(rate=None)
    process.communicate(timeout=120)
    assert process.returncode == 0
    progress = Run.objects.get().progress()
    assert progress.done == progress.total == 120
    assert progress.failed == 0
    assert ImageAsset.objects.fresh().count() == 120


def test_regenerate__killed_leaves_no_process_behind(
    make_asset: MakeAsset, originals_dir: Path, process_environment: dict[str, str]
) -> None:
    make_many(make_asset, originals_dir, 120)
    process = start_long_regeneration(process_environment)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(is_alive(child) for child in family), "the end of its processes")


def test_regenerate__enqueued_and_waited_for(
    run_command: RunCommand, make_asset: MakeAsset, worker: StartWorker
) -> None:
    make_asset()
    make_asset(pictures.truncated())
    worker()
    done = run_command("regenerate_thumbnails", "--enqueue", "--wait", "--json")
    assert outcomes(done) == (1, 0, 1)
    assert done.returncode == 1


def test_regenerate__enqueued_without_a_queue_says_so(
    run_command: RunCommand, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    queue_server.stop()
    done = run_command("regenerate_thumbnails", "--enqueue")
    assert done.returncode == 1
    assert "is saved, but the queue cannot be reached" in done.stderr


@pytest.mark.parametrize("command", ["regenerate_thumbnails", "purge_thumbnails"])
def test_where_no_images_match__there_is_nothing_to_do(
    run_command: RunCommand, make_asset: MakeAsset, command: str
) -> None:
    make_asset()
    for further in ([], ["--dry-run"]):
        done = run_command(command, "--to-date", "1999-01-01", *further)
        said = "Nothing to do: no images match: created to 1999-01-01.\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert as_json(run_command(command, "--to-date", "1999-01-01", "--json"))["run"] is None
    assert not Run.objects.exists()


# --- purge_thumbnails -----------------------------------------------------------------------------


def test_purge__deletes_what_is_selected(
    run_command: RunCommand, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    assets = [make_asset() for _ in range(3)]
    for asset in assets:
        serving.serve(asset)
    shard = assets[0].thumbnail_name.partition("/")[0]
    elsewhere = [asset for asset in assets if not asset.thumbnail_name.startswith(f"{shard}/")]
    done = run_command("purge_thumbnails", "--shard", shard, "--yes")
    assert done.returncode == 0, done.stderr
    assert not (thumbnail_dir / assets[0].thumbnail_name).exists()
    assert list(ImageAsset.objects.fresh()) == elsewhere
    assert run_command("purge_thumbnails", "--all", "--yes").returncode == 0
    assert not list(thumbnail_dir.rglob("*.jpg"))
    assert ImageAsset.objects.missing().count() == 3


def test_purge__dry_run_tells_and_deletes_nothing(manage: Manage, make_asset: MakeAsset) -> None:
    asset = make_asset()
    serving.serve(asset)
    asset.refresh_from_db()
    make_asset()
    report = as_json(manage("purge_thumbnails", "--all", "--dry-run", "--json"))
    assert report["states"] == {"missing": 1, "fresh": 1, "stale": 0, "failed": 0, "accepted": 0}
    assert report["bytes"] == asset.thumbnail_bytes
    assert ImageAsset.objects.fresh().count() == 1


def test_purge__older_than(run_command: RunCommand, make_asset: MakeAsset) -> None:
    old, new = make_asset(), make_asset()
    for asset in (old, new):
        serving.serve(asset)
    ImageAsset.objects.filter(pk=old.pk).update(thumbnail_generated_at="2020-01-01T00:00:00Z")
    assert run_command("purge_thumbnails", "--older-than", "7d", "--yes").returncode == 0
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.state, new.state) == (State.MISSING, State.FRESH)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Say which thumbnails"),
        (["--all", "--ids", "1"], "Say which thumbnails"),
        (["--shard", "zz"], "is not a shard"),
        (["--older-than", "7"], "is not an age in days"),
        (["--all"], "There is no terminal to ask on"),
    ],
)
def test_purge__wrong_usage_deletes_nothing(
    run_command: RunCommand, make_asset: MakeAsset, arguments: list[str], sentence: str
) -> None:
    serving.serve(make_asset())
    done = run_command("purge_thumbnails", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert ImageAsset.objects.fresh().count() == 1


class Terminal(io.StringIO):
    """What was typed at a terminal, and then Ctrl-D."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("typed", ["n\n", "\n", ""], ids=["no", "return", "ctrl-d"])
def test_purge__that_is_not_confirmed_deletes_nothing(make_asset: MakeAsset, typed: str) -> None:
    serving.serve(make_asset())
    done = call_command("purge_thumbnails", ["--all"], stdin=Terminal(typed))
    assert done.returncode == 0
    assert "Nothing was deleted." in done.stderr
    assert "Traceback" not in done.stderr
    assert ImageAsset.objects.fresh().count() == 1


# --- thumbnail_runs report ------------------------------------------------------------------------


def test_report__says_what_became_of_each_image(
    run_command: RunCommand, make_asset: MakeAsset, settings: Settings
) -> None:
    settings.THUMBNAIL_SITE_URL = "https://images.example.org"
    asset, gone = make_asset(name="one.jpg"), make_asset(name="two.jpg")
    work(run := start_here())
    gone.delete()
    said = run_command("thumbnail_runs", "report", run.pk)
    assert said.returncode == 0, said.stderr
    assert "Of 2 images: 2 rendered." in said.stdout
    assert "Now: 1 fresh. Since the run: 1 deleted." in said.stdout
    asset.refresh_from_db()
    table = run_command("thumbnail_runs", "report", run.pk, "--csv").stdout.splitlines()
    assert table[0] == "id,name,outcome,reason,old_fingerprint,new_fingerprint,url,state"
    url = f"https://images.example.org{asset.thumbnail_url}"
    assert table[1] == f"{asset.pk},one.jpg,rendered,,,{asset.fingerprint},{url},fresh"
    images = as_json(run_command("thumbnail_runs", "report", run.pk, "--json"))["images"]
    assert [image["state"] for image in images] == ["fresh", "deleted"]
    assert "file" not in images[0]


def test_report__verified_exits_with_1_where_a_file_is_not_as_recorded(
    run_command: RunCommand, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    make_asset(name="one.jpg")
    lost = make_asset(name="two.jpg")
    work(run := start_here())
    done = run_command("thumbnail_runs", "report", run.pk, "--verify")
    assert done.returncode == 0, done.stderr
    assert "Files: 2 as recorded." in done.stdout
    (thumbnail_dir / lost.thumbnail_name).unlink()
    done = run_command("thumbnail_runs", "report", run.pk, "--verify")
    assert done.returncode == 1
    assert "Files: 1 as recorded, 1 missing." in done.stdout
    assert f"  {lost.pk} two.jpg: missing" in done.stdout
    assert "1 image has files that are not as recorded." in done.stderr
    done = run_command("thumbnail_runs", "report", run.pk, "--verify", "--json")
    assert done.returncode == 1
    assert [image["file"] for image in as_json(done)["images"]] == ["as recorded", "missing"]


def test_report__is_stopped_at_once(
    run_command: RunCommand, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_asset()
    run = start_here()
    monkeypatch.setattr(run_report, "rows", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    done = run_command("thumbnail_runs", "report", run.pk, "--csv")
    assert (done.returncode, done.stderr.strip()) == (130, "CommandError: Stopped by SIGINT.")


# --- thumbnail_runs -------------------------------------------------------------------------------


def test_runs__list_show_and_retry(
    run_command: RunCommand, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    make_asset(pictures.truncated(), name="broken.jpg")
    run_command("regenerate_thumbnails")
    run = Run.objects.get()
    assert f"{run.pk} " in run_command("thumbnail_runs").stdout
    shown = run_command("thumbnail_runs", "show", run.pk).stdout
    assert "1 rendered, 1 failed" in shown
    assert "broken.jpg" in shown
    assert as_json(run_command("thumbnail_runs", "show", run.pk, "--json"))["failed"] == 1
    assert run_command("thumbnail_runs", "retry", run.pk, "--reason", "unreadable").returncode == 0
    assert Run.objects.count() == 2
    assert run_command("thumbnail_runs", "cancel", run.pk + 1).returncode == 0
    assert run_command("thumbnail_runs", "resume", run.pk + 1).returncode == 0
    nothing = run_command("thumbnail_runs", "retry", run.pk, "--reason", "crashed")
    assert (nothing.returncode, "Nothing failed as crashed" in nothing.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "99999"], "There is no run 99999"),
        (["cancel", "x"], "is not a whole number"),
        (["explode", "1"], "invalid choice"),
        (["cancel", "RUN"], "is done and cannot be cancelled"),
        (["resume", "RUN"], "is done and cannot be resumed"),
        (["retry", "RUN", "--reason", "laziness"], "invalid"),
    ],
)
def test_runs__wrong_usage_is_one_sentence_and_exit_2(
    run_command: RunCommand, make_asset: MakeAsset, arguments: list[str], sentence: str
) -> None:
    make_asset()
    run = start_here()
    work(run)
    done = run_command("thumbnail_runs", *(str(run.pk) if a == "RUN" else a for a in arguments))
    assert done.returncode == 2
    assert sentence in done.stderr
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert Run.objects.count() == 1


# --- thumbnail_stats ------------------------------------------------------------------------------


def test_stats__counts_database_and_cache(manage: Manage, make_asset: MakeAsset) -> None:
    fresh, stale, broken = make_asset(), make_asset(), make_asset(pictures.truncated())
    make_asset()
    for asset in (fresh, stale):
        serving.serve(asset)
    with pytest.raises(NoThumbnail):
        serving.serve(broken)
    ImageAsset.objects.filter(pk=stale.pk).update(thumbnail_recipe="0123456789abcdef")
    report = as_json(manage("thumbnail_stats", "--json", "--shards"))
    assert report["assets"] == {
        "missing": 1,
        "fresh": 1,
        "stale": 1,
        "failed": 1,
        "accepted": 0,
    }
    assert report["failures"] == {"unreadable": 1}
    assert report["otherRecipes"] == {"0123456789abcdef": 1}
    assert report["cache"]["files"] == 2
    assert len(report["shards"]) == 256
    assert sum(shard["bytes"] for shard in report["shards"].values()) == report["cache"]["bytes"]
    text = manage("thumbnail_stats", "--shards").stdout
    assert "Cache: 2 files" in text
    assert report["recipe"] in text


# --- output that is not read ----------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["nothing", "report"])
def test_output__that_nobody_reads_ends_without_a_traceback(
    make_asset: MakeAsset, process_environment: dict[str, str], tmp_path: Path, kept: str
) -> None:
    make_asset(pictures.truncated())
    reader, writer = os.pipe()
    os.close(reader)
    errors = tmp_path / "errors"
    with open(writer, "wb") as closed, errors.open("wb") as log:  # noqa: PTH123  a descriptor
        process = warm.start(
            ["manage.py", "regenerate_thumbnails"],
            env=process_environment,
            output=closed,
            errors=log if kept == "report" else closed,
        )
        assert process.wait() == 1  # the work's own
    assert errors.read_text() == ("CommandError: 1 failed.\n" if kept == "report" else "")
    assert ImageAsset.objects.failed().count() == 1


def test_interrupted__at_its_start_ends_without_a_traceback() -> None:
    text = """
import runpy, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "django.core.management":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
sys.argv = ["manage.py", "thumbnail_stats"]
runpy.run_path("manage.py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_interrupted__says_so_and_ends_as_shells_expect(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnail_stats, "statistics", Mock(side_effect=KeyboardInterrupt))
    done = run_command("thumbnail_stats")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THUMBNAIL_SIZE", "0"),
        ("THUMBNAIL_QUALITY", "101"),
        ("THUMBNAIL_MAX_PIXELS", "-1"),
        ("THUMBNAIL_VARIANTS", ".webp=256, .WEBP=512"),
        ("THUMBNAIL_FORMATS", "default,HEIF"),
        ("THUMBNAIL_PLACEHOLDERS", "perhaps"),
        ("THUMBNAIL_DIR", "relative/path"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "nonsense"),
        ("REDIS_URL", "http://localhost"),
        ("HTTPS", "perhaps"),
        ("EMAIL_URL", "mail.example.org:587"),
        ("THUMBNAIL_SITE_URL", "images.example.org"),
    ],
)
def test_wrong_setting__stops_the_start_and_is_named(manage: Manage, name: str, value: str) -> None:
    done = manage("thumbnail_stats", **{name: value})
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

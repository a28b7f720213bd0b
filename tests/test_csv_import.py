"""Importing another service's table: its ids, dates, sessions and thumbnails stay."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pytest_django import Settings

from tests import pictures
from tests.conftest import Manage, RunCommand
from tests.processes import COMMAND_SECONDS, ROOT
from tests.waiting import wait_for
from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, SessionImage, State, TrainingSession
from thumbnails.storage.names import name_for
from thumbnails.upkeep.images import csv_import
from thumbnails.upkeep.images.csv_import import ImportOptions, TableImport
from thumbnails.upkeep.images.importing import import_file

pytestmark = pytest.mark.django_db

Rows = list[dict[str, Any]]
DATE = datetime(2019, 5, 1, 12, 30, tzinfo=UTC)


def table(rows: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


@pytest.fixture
def sync(run_command: RunCommand, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Import rows, or bytes, by the command; returns its status and report."""

    def run(rows: Rows | bytes, *options: object) -> tuple[int, dict[str, Any]]:
        file = tmp_path / "images.csv"
        file.write_bytes(rows if isinstance(rows, bytes) else table(rows))
        done = run_command("import_images", "--from-csv", file, "--json", *options)
        return done.returncode, json.loads(done.stdout or "{}")

    return run


Sync = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def photos(originals_dir: Path) -> list[Path]:
    paths = [originals_dir / "2019" / f"photo {number}.jpg" for number in range(3)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(pictures.jpeg(orientation=6))
    return paths


# --- What is kept ---------------------------------------------------------------------------------


def test_table__keeps_ids_dates_and_sessions_and_is_a_sync(sync: Sync, photos: list[Path]) -> None:
    rows: Rows = [
        {
            "id": 7_000 + number,
            "path": path,
            "created_at": "2019-05-01 14:30:00+02",
            "session_id": 40,
            "session_name": "Winter",
        }
        for number, path in enumerate(photos)
    ]
    rows.append({**rows[0], "session_id": 41})  # another session of the same name
    status, report = sync(rows)
    assert status == 0
    assert (report["added"], report["repeated"], report["gone"]) == (3, 1, 0)
    first = ImageAsset.objects.get(pk=7_000)
    assert str(first.original.name) == "2019/photo 0.jpg"
    assert first.created_at == DATE
    assert (first.format, first.orientation) == ("JPEG", 6)
    assert first.state == State.MISSING
    assert [(session.pk, session.name) for session in first.sessions.order_by("pk")] == [
        (40, "Winter"),
        (41, "Winter"),
    ]
    assert set(SessionImage.objects.values_list("created_at", flat=True)) == {DATE}

    assert sync(rows)[1]["unchanged"] == 3
    changed = {**rows[1], "created_at": "2020-01-01", "session_id": 41, "session_name": "Spring"}
    status, report = sync([changed, *rows[2:3]])
    assert status == 0
    assert (report["updated"], report["unchanged"], report["gone"]) == (1, 1, 1)
    second = ImageAsset.objects.get(pk=7_001)
    assert second.created_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert set(second.memberships.values_list("session", "created_at")) == {
        (40, second.created_at),
        (41, second.created_at),
    }
    assert TrainingSession.objects.get(pk=41).name == "Spring"


def test_ids__of_new_images_and_sessions_begin_beyond_the_reserve(
    sync: Sync, photos: list[Path]
) -> None:
    rows = [
        {"id": 90_000_000, "path": photos[0], "session_id": 30_000_000},
        {"id": 5, "path": photos[1], "session_id": 2},
    ]
    assert sync(rows, "--reserve", 500)[0] == 0
    assert import_file(photos[2]).pk == 90_000_501
    assert TrainingSession.objects.create(name="new").pk == 30_000_501
    assert sync(rows, "--reserve", 0)[0] == 0
    assert TrainingSession.objects.create(name="never earlier").pk == 30_000_502


def test_originals__need_not_be_looked_at(sync: Sync) -> None:
    rows = [{"id": 1, "path": "2019/nowhere.jpg"}]
    assert sync(rows, "--no-facts") == (
        0,
        {**sync(rows, "--no-facts")[1], "added": 1, "unchanged": 0},
    )
    status, report = sync(rows)
    assert status == 0
    assert report["problems"]["original"]["count"] == 1
    assert ImageAsset.objects.get().width is None


def test_dry_run__tells_the_same_and_changes_nothing(sync: Sync, photos: list[Path]) -> None:
    rows: Rows = [{"id": 1, "path": path} for path in photos[:2]]
    rows += [{"id": 2, "path": photos[2]}]
    told = sync(rows, "--dry-run")
    assert not ImageAsset.objects.exists()
    assert sync(rows) == (told[0], {**told[1], "dryRun": False})
    assert told[1]["problems"]["conflict"]["count"] == 1


def test_batches__see_what_earlier_ones_said(
    sync: Sync, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_import, "BATCH", 1)
    rows: Rows = [{"id": 1, "path": photos[0]}, {"id": 1, "path": photos[0]}]
    rows += [{"id": 1, "path": photos[1]}, {"id": 2, "path": photos[0]}]
    for options in (["--dry-run"], []):
        status, report = sync(rows, *options)
        assert status == 1
        assert (report["added"], report["repeated"], report["refused"]) == (1, 1, 2)
        examples = report["problems"]["conflict"]["examples"]
        assert [example["line"] for example in examples] == [4, 5]


# --- Old thumbnails -------------------------------------------------------------------------------


def test_old_thumbnails__are_taken_over(
    sync: Sync, photos: list[Path], tmp_path: Path, thumbnail_dir: Path
) -> None:
    """From where the other service put them; one is not there, one is no picture."""
    old = tmp_path / "old"
    (old / "0a").mkdir(parents=True)
    picture = pictures.jpeg(Image.new("RGB", (90, 60)))
    (old / "0a/1.jpg").write_bytes(picture)
    os.utime(old / "0a/1.jpg", (DATE.timestamp(), DATE.timestamp()))
    (old / "0a/2.jpg").write_bytes(picture[:-9])
    rows = [
        {"id": number, "path": path, "thumbnail_path": f"0a/{number}.jpg"}
        for number, path in enumerate(photos, start=1)
    ]
    status, report = sync(rows, "--old-thumbnails", old)
    assert status == 0
    assert report["added"] == 3
    assert [one["line"] for one in report["problems"]["thumbnail"]["examples"]] == [3, 4]
    first = ImageAsset.objects.get(pk=1)
    assert first.state == State.STALE
    assert (first.thumbnail_recipe, first.thumbnail_bytes) == ("unstamped", len(picture))
    assert first.thumbnail_generated_at == DATE
    assert (thumbnail_dir / name_for(1)).read_bytes() == picture
    assert (old / "0a/1.jpg").exists()
    assert set(ImageAsset.objects.missing().values_list("pk", flat=True)) == {2, 3}
    assert sync(rows, "--old-thumbnails", old)[1]["unchanged"] == 3


def test_old_thumbnails__are_taken_over_with_their_variants(
    sync: Sync, photos: list[Path], tmp_path: Path, thumbnail_dir: Path, settings: Settings
) -> None:
    """One variant is there, one is a picture of another format, one is not there."""
    settings.THUMBNAIL_VARIANTS = {"@2x.jpg": 512, ".webp": 256, ".avif": 256}
    double = pictures.jpeg(Image.new("RGB", (180, 120)))
    (tmp_path / "old.jpg").write_bytes(pictures.jpeg(Image.new("RGB", (90, 60))))
    (tmp_path / "old@2x.jpg").write_bytes(double)
    (tmp_path / "old.webp").write_bytes(double)
    rows = [{"id": 1, "path": photos[0], "thumbnail_path": "old.jpg"}]
    for options in (["--dry-run"], []):
        status, report = sync(rows, "--old-thumbnails", tmp_path, *options)
        assert (status, report["added"]) == (0, 1)
        (problem,) = report["problems"]["thumbnail"]["examples"]
        assert "old.webp is not a whole picture" in problem["detail"]
    assert ImageAsset.objects.get().thumbnail_variants == {"@2x.jpg": [180, 120, len(double)]}
    assert {path.name for path in thumbnail_dir.glob("[0-9a-f]*/*")} == {"1.jpg", "1@2x.jpg"}
    assert (thumbnail_dir / name_for(1, "@2x.jpg")).read_bytes() == double
    # The service wrote them where this cache is: there is nothing to copy.
    ImageAsset.objects.all().delete()
    (thumbnail_dir / name_for(1)).write_bytes((tmp_path / "old.jpg").read_bytes())
    (thumbnail_dir / name_for(1, "@2x.jpg")).write_bytes(double)
    assert sync([{**rows[0], "thumbnail_path": name_for(1)}])[1]["added"] == 1
    assert ImageAsset.objects.get().thumbnail_variants.keys() == {"@2x.jpg"}


def test_old_thumbnails__never_replace_one_that_was_rendered(
    sync: Sync, photos: list[Path], tmp_path: Path, run_command: RunCommand, thumbnail_dir: Path
) -> None:
    rows = [{"id": 1, "path": photos[0], "thumbnail_path": tmp_path / "old.jpg"}]
    (tmp_path / "old.jpg").write_bytes(pictures.jpeg())
    sync([{"id": 1, "path": photos[0]}])
    assert run_command("regenerate_thumbnails").returncode == 0
    rendered = (thumbnail_dir / name_for(1)).read_bytes()
    assert sync(rows)[1]["unchanged"] == 1
    ImageAsset.objects.update(thumbnail_path="")  # as after a restored database
    assert sync(rows)[1]["unchanged"] == 1
    assert (thumbnail_dir / name_for(1)).read_bytes() == rendered


# --- Bad input ------------------------------------------------------------------------------------

GOOD = {"id": "1", "path": "a.jpg"}


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        pytest.param({"id": "0"}, "id", id="zero"),
        pytest.param({"id": "9" * 19}, "id", id="too-large"),
        pytest.param({"id": "1.0"}, "id", id="fraction"),
        pytest.param({"id": "٣"}, "id", id="other-digits"),
        pytest.param({"created_at": "yesterday"}, "date", id="no-date"),
        pytest.param({"created_at": "0001-01-01"}, "date", id="before-1900"),
        pytest.param({"session_id": "x"}, "session", id="session-id"),
        pytest.param({"session_name": "x" * 201}, "session", id="session-name"),
        pytest.param({"path": ""}, "path", id="no-path"),
        pytest.param({"path": "/etc/passwd"}, "path", id="outside"),
        pytest.param({"path": "../a.jpg"}, "path", id="climbing"),
        pytest.param({"path": "a\x1b[2J.jpg"}, "path", id="control-characters"),
        pytest.param({"path": "x" * 501}, "path", id="too-long"),
        pytest.param({"path": "caf\udce9.jpg"}, "not_utf8", id="latin-1"),
        pytest.param({"path": "folder"}, "not_a_file", id="folder"),
    ],
)
def test_row__that_is_bad_is_refused_alone(
    bad: dict[str, str], problem: str, sync: Sync, originals_dir: Path
) -> None:
    (originals_dir / "folder").mkdir()
    columns = dict.fromkeys(["id", "path", "created_at", "session_id", "session_name"], "")
    good = {**columns, "id": "2", "path": "b.jpg"}
    status, report = sync([{**columns, **GOOD, **bad}, good])
    assert status == 1
    assert (report["refused"], report["added"]) == (1, 1)
    assert [one["line"] for one in report["problems"][problem]["examples"]] == [2]
    assert ImageAsset.objects.get().pk == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "header", id="empty"),
        pytest.param(b"1,a.jpg\n", "header", id="no-header"),
        pytest.param("id,path\n1,a.jpg\n".encode("utf-16"), "header", id="utf-16"),
        pytest.param(b"id,path,size\n1,a.jpg,5\n", "'size'", id="unknown-column"),
        pytest.param(b"id,path,id\n1,a.jpg,1\n", "twice", id="doubled-column"),
    ],
)
def test_header__that_is_wrong_stops_the_import(content: bytes, message: str) -> None:
    with TableImport(ImportOptions()) as this, pytest.raises(UsageError, match=message):
        list(this.import_rows(io.BytesIO(content)))
    assert not ImageAsset.objects.exists()


def test_rows__that_do_not_fit_the_header(sync: Sync) -> None:
    content = b"id,path\n1\n2,b.jpg,x\n\n3," + b"x" * 200_000 + b"\n4,f\0.jpg\n5,e.jpg\n"
    status, report = sync(content, "--no-facts")
    assert status == 1
    assert report["added"] == 1
    examples = report["problems"]["columns"]["examples"]
    assert [one["line"] for one in examples] == [2, 3, 5, 6]


def test_conflicts__with_the_database(sync: Sync, photos: list[Path]) -> None:
    known = import_file(photos[0])
    status, report = sync(
        [
            {"id": known.pk + 1, "path": photos[0]},
            {"id": known.pk, "path": photos[1]},
            {"id": known.pk, "path": photos[1]},
            {"id": known.pk + 2, "path": photos[2]},
        ]
    )
    assert status == 1
    examples = report["problems"]["conflict"]["examples"]
    assert [one["line"] for one in examples] == [2, 3, 4]
    assert f"image {known.pk}" in examples[0]["detail"]
    assert set(ImageAsset.objects.values_list("pk", flat=True)) == {known.pk, known.pk + 2}


# --- The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [[], ["x", "--from-csv", "-"], ["x", "--no-facts"], ["--from-csv", "/nowhere.csv"]],
    ids=["nothing", "both", "option-of-tables", "no-file"],
)
def test_command__wrong_usage(arguments: list[str], run_command: RunCommand) -> None:
    assert run_command("import_images", *arguments).returncode == 2


def test_command__reads_standard_input(manage: Manage, photos: list[Path]) -> None:
    done = manage(
        "import_images", "--from-csv", "-", answer=table([{"id": 8, "path": photos[0]}]).decode()
    )
    assert (done.returncode, done.stdout.splitlines()[-1][:8]) == (0, "1 added,")
    assert ImageAsset.objects.get().pk == 8


def test_command__interrupted_leaves_whole_batches(process_environment: dict[str, str]) -> None:
    """With the terminal's or the pipe's other end still open."""
    rows = table(
        [{"id": number, "path": f"{number}.jpg"} for number in range(1, csv_import.BATCH + 500)]
    )
    command = [sys.executable, "manage.py", "import_images", "--from-csv", "-", "--no-facts"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=process_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(rows)
        process.stdin.flush()
        wait_for(lambda: ImageAsset.objects.count() == csv_import.BATCH, "the first batch")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert ImageAsset.objects.count() == csv_import.BATCH

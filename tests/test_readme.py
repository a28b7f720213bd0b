"""The documents: links lead somewhere, tables list what there is, and examples do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.contrib.auth.models import User
from django.core.management import BaseCommand, get_commands, load_command_class
from pytest_django.live_server_helper import LiveServer

from tests import pictures
from tests.callers import assets_of
from tests.conftest import MakeAsset
from tests.processes import ROOT
from tests.servers import QueueServer
from tests.test_makefile import TARGETS
from thumbnails.api import api
from thumbnails.exceptions import NoThumbnail
from thumbnails.management import base
from thumbnails.models import ApiToken, Chunk, ImageAsset, Outcome, Run, TrainingSession
from thumbnails.signals import thumbnails_changed
from thumbnails.upkeep.images import pools, serving

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in (ROOT, ROOT / "docs", ROOT / "deploy")
    for path in sorted(folder.glob("*.md"))
}
README = PAGES["README.md"]
CURL_LINES = re.findall(r"^    (curl .*)$", PAGES["docs/api.md"], re.MULTILINE)

# --- Links and names ------------------------------------------------------------------------------


def prose_of(page: str) -> str:
    """The page without its blocks of code, whose `#` begins no heading."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: str) -> set[str]:
    """The anchors that GitHub and GitLab make of the page's headings, as far as ours need them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links__lead_to_what_there_is(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose_of(PAGES[name]))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", sorted({*PAGES} - {"CHANGELOG.md"}))
def test_paths__that_are_named_exist(name: str) -> None:
    for path in re.findall(
        r"`((?:thumbnails|thumbsite|tests|benchmarks|docs)/[\w./]*)`", PAGES[name]
    ):
        assert (ROOT / path).exists(), path


def test_tests__that_are_named_exist() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+__\w+)`", PAGES["SECURITY.md"]))
    assert named
    assert named <= there


def first_cells(page: str) -> set[str]:
    """What stands in backticks in the first column of the page's tables."""
    cells = re.findall(r"^\| (.+?) \|", page, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(.+?)`", cell)}


def test_settings__are_those_that_the_site_reads() -> None:
    source = (ROOT / "thumbsite" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', source))
    assert len(read) > 20
    assert first_cells(PAGES["docs/settings.md"]) == {*read, "PORT"}  # which `make run` reads


def test_checks__are_those_of_the_app() -> None:
    source = (ROOT / "thumbnails" / "checks.py").read_text(encoding="utf-8")
    ids = set(re.findall(r'id="(thumbnails\.\w+)"', source))
    _, _, checks = PAGES["docs/own-project.md"].partition("## What `manage.py check` says")
    assert first_cells(checks) == ids


def test_api__calls_are_those_of_the_schema() -> None:
    documented = {
        cell
        for cell in first_cells(PAGES["docs/api.md"])
        if cell.startswith(("GET", "POST", "PUT", "PATCH", "DELETE"))
    }
    assert documented == {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in api.get_openapi_schema()["paths"].items()
        for method in methods
    }


COMMANDS = sorted(name for name, app in get_commands().items() if app == "thumbnails")


def test_commands__are_those_of_the_app() -> None:
    page = PAGES["docs/commands.md"]
    table = page[: page.index("| exit status")]
    assert first_cells(table) == set(COMMANDS)
    assert {int(cell) for cell in re.findall(r"^\| ([0-9]+) \|", page, re.MULTILINE)} == {
        *(0, base.FAILED, base.WRONG_USAGE, base.INTERRUPTED),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_commands__options_are_all_described(name: str) -> None:
    command = load_command_class("thumbnails", name)
    parser = command.create_parser("manage.py", name)
    djangos = {
        option
        for action in BaseCommand().create_parser("manage.py", "")._actions  # noqa: SLF001
        for option in action.option_strings
    }
    for option in parser._option_string_actions:  # noqa: SLF001  argparse has no other list
        assert option in djangos or option in PAGES["docs/commands.md"], option


def test_make_targets__are_those_of_the_makefile() -> None:
    block = README[README.index("## Make targets") :]
    listed = re.findall(r"^    make ([a-z-]+)", block, re.MULTILINE)
    assert {*listed, "help"} == set(TARGETS)


# --- Examples -------------------------------------------------------------------------------------


@pytest.fixture
def folder_with_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder, until the test ends."""
    (tmp_path / "beach.jpg").write_bytes(pictures.jpeg(orientation=6))
    monkeypatch.chdir(tmp_path)
    yield
    pools.close_all()  # those that were started here would go on in a folder that is removed


@pytest.mark.django_db(transaction=True)
def test_python_example__does_what_it_says(
    folder_with_photo: None,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  as a reader would
    asset = ImageAsset.objects.get()
    assert names["asset"] == asset
    assert Path(str(asset)).name == "beach.jpg"
    assert asset.sessions.get() == TrainingSession.objects.get(name="Summer")
    assert names["url"] == asset.thumbnail_url
    assert names["outcome"] == Outcome.RENDERED
    assert (thumbnail_dir / asset.thumbnail_name).exists()
    run = names["run"]
    assert Run.objects.get() == run
    assert assets_of(run.pk) == {asset.pk}
    assert capsys.readouterr().out == f"{run} running 0 of 1\n"
    assert (names["left"], names["side_px"]) == (0, 256)


@pytest.mark.django_db(transaction=True)
def test_receiver_example__enqueues_what_changes(
    make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    [code] = re.findall(
        r"^```python\n(.*?)^```$", PAGES["docs/delivery.md"], re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  as a project would
    try:
        asset = make_asset()
        serving.serve(asset)
        queue = django_rq.get_queue()
        [job] = queue.jobs
        url, _, _ = asset.thumbnail_url.partition("?")
        assert job.func_name == "images.jobs.thumbnails_changed"
        assert job.args == ([asset.pk], [url, asset.thumbnail_url], "rendered")
    finally:
        thumbnails_changed.disconnect(names["enqueue_changes"])


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

# What each line's answer has to say, by a part of the line that no other has.
ANSWERS: dict[str, Callable[[Any], bool]] = {
    "/readyz": lambda answer: answer["status"] == "ready",
    "state=failed": lambda answer: [each["assetId"] for each in answer["images"]] == [12346],
    "/generate": lambda answer: (answer["assetId"], answer["status"]) == (12345, "generated"),
    "/regenerate": lambda answer: (
        answer["kind"] == "regenerate" and assets_of(answer["id"]) == {12347}
    ),
    "/purge": lambda answer: answer["dryRun"] is True and answer["total"] == 1,
    "runs?state=running": lambda answer: len(answer["runs"]) == 1,
    "/runs/42/retry": lambda answer: assets_of(answer["id"]) == {12346},
}


def test_curl_lines__each_has_its_answer_here() -> None:
    assert 5 <= len(CURL_LINES) <= 8
    for line in CURL_LINES:
        assert "--fail-with-body" in line
        parts = [part for part in ANSWERS if part in line]
        assert len(parts) == (0 if "-o 12345.jpg" in line else 1), line


@pytest.fixture
def told_of(make_asset: MakeAsset) -> None:
    """The images and the run that the lines are about."""
    good, broken = pictures.jpeg(), pictures.truncated()
    for pk, data, orientation in ((12345, good, 1), (12346, broken, 1), (12347, good, 6)):
        asset = make_asset(data, name=f"{pk}.jpg")
        ImageAsset.objects.filter(pk=asset.pk).update(id=pk, orientation=orientation)
    old = ImageAsset.objects.get(pk=12347)
    serving.serve(old)
    ImageAsset.objects.filter(pk=old.pk).update(
        thumbnail_recipe="old", thumbnail_generated_at="2020-01-01T00:00:00Z"
    )
    with pytest.raises(NoThumbnail):
        serving.serve(ImageAsset.objects.get(pk=12346))
    run = Run.objects.create(
        pk=42, kind=Run.Kind.REGENERATE, state=Run.State.DONE, origin=Run.Origin.API, total=1
    )
    Chunk.objects.create(
        run=run, number=1, asset_ids=[12346], failed=1, failures={"unreadable": [12346]}
    )


@needs_curl
@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_curl_lines__do_what_they_say(
    live_server: LiveServer, staff: User, told_of: None, queue_server: QueueServer, tmp_path: Path
) -> None:
    _, secret = ApiToken.objects.issue(staff, "documents")
    environment = {**os.environ, "TOKEN": secret, "SITE": live_server.url}
    for line in CURL_LINES:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],  # noqa: S607  where it lies is the reader's
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if "-o 12345.jpg" in line:
            picture = pictures.opened((tmp_path / "12345.jpg").read_bytes())
            assert (picture.format, picture.size) == ("JPEG", (64, 48))
            continue
        [part] = [part for part in ANSWERS if part in line]
        assert ANSWERS[part](json.loads(done.stdout)), (line, done.stdout)


@needs_curl
@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_curl_lines__fail_without_a_right_token(live_server: LiveServer, told_of: None) -> None:
    """As the lines are written, a script that is refused notices."""
    environment = {**os.environ, "TOKEN": "wrong", "SITE": live_server.url}
    [line] = [line for line in CURL_LINES if "state=failed" in line]
    done = subprocess.run(
        ["bash", "-c", line],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert json.loads(done.stdout)["status"] == HTTPStatus.UNAUTHORIZED

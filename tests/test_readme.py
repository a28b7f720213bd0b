"""The README's lines for scripts do what it says, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django.live_server_helper import LiveServer

from tests import pictures
from tests.callers import assets_of
from tests.conftest import MakeAsset
from tests.processes import ROOT
from tests.servers import QueueServer
from thumbnails.exceptions import NoThumbnail
from thumbnails.models import ApiToken, Chunk, ImageAsset, Run
from thumbnails.upkeep.images import serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
CURL_LINES = re.findall(r"^    (curl .*)$", README, re.MULTILINE)

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
    """The images and the run that the README's lines are about."""
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
    _, secret = ApiToken.objects.issue(staff, "README")
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

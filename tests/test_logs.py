"""What the site logs: one line a chunk, a lazy render and a failure, each with its request."""

from __future__ import annotations

import logging
import re

import pytest

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import start_here, work
from thumbnails.exceptions import NoThumbnail
from thumbnails.upkeep.images import serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "thumbnails")
    return caplog


def test_chunk__is_one_line_and_each_failure_another(
    make_asset: MakeAsset, logged: pytest.LogCaptureFixture
) -> None:
    make_asset()
    broken = make_asset(pictures.truncated())
    run = start_here()
    work(run)
    failure, chunk = logged.records
    assert failure.message.startswith(
        f"Image {broken.pk}: failed in run {run.pk} (unreadable: OSError"
    )
    assert re.fullmatch(
        rf"Run {run.pk}, chunk 1: 2 of 2 images: 1 rendered, 1 failed; [\d.]+ a second",
        chunk.message,
    )
    assert {"run": run.pk, "chunk": 1, "images": 2}.items() <= vars(chunk).items()
    assert vars(chunk)["outcomes"] == {"rendered": 1, "failed": 1}
    assert {"run": run.pk, "image": broken.pk, "reason": "unreadable"}.items() <= vars(
        failure
    ).items()


def test_lazy_render__is_one_line_with_the_image(
    make_asset: MakeAsset, logged: pytest.LogCaptureFixture
) -> None:
    good, broken = make_asset(), make_asset(pictures.truncated())
    serving.serve(good)
    with pytest.raises(NoThumbnail):
        serving.serve(broken)
    serving.serve(good)  # a hit
    rendered, failed = (record.message for record in logged.records)
    assert re.fullmatch(rf"Image {good.pk}: rendered in a request in \d\.\d\d\d s", rendered)
    assert failed.startswith(f"Image {broken.pk}: failed in a request in ")
    assert "(unreadable: " in failed

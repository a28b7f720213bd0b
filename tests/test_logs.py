"""What the site logs: one line a chunk, a lazy render and a failure, each with its request."""

from __future__ import annotations

import json
import logging
import re
import runpy
from datetime import UTC, datetime
from http import HTTPStatus
from logging.config import DictConfigurator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.processes import ROOT
from tests.runs import start_here, work
from thumbnails.exceptions import NoThumbnail
from thumbnails.upkeep.images import serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "thumbnails")
    return caplog


def formatted(record: logging.LogRecord, how: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The record as the site's handler writes it with LOG_FORMAT set to that."""
    monkeypatch.setenv("LOG_FORMAT", how)
    config = DictConfigurator(runpy.run_path(str(ROOT / "thumbsite" / "settings.py"))["LOGGING"])
    handler = config.configure_handler({**config.config["handlers"]["stderr"], **ready(config)})
    assert handler.filter(record)
    return str(handler.format(record))


def ready(config: Any) -> dict[str, Any]:
    """The parts of a handler, which name their own in the configuration."""
    for kind in ("formatters", "filters"):
        make = getattr(config, f"configure_{kind.removesuffix('s')}")
        for name, part in config.config[kind].items():
            config.config[kind][name] = make(part)
    return {}


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


def test_request__has_an_id_in_its_header_and_its_log(
    make_asset: MakeAsset,
    client: Client,
    logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record is formatted while the request is answered, as by a handler."""
    lines: list[str] = []
    record_of = logging.getLogger("thumbnails.upkeep.images.logs")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatted(record, "line", monkeypatch))

    handler = Handler()
    record_of.addHandler(handler)
    try:
        response = client.get(make_asset().thumbnail_url)
    finally:
        record_of.removeHandler(handler)
    own = response["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{16}", own)
    (line,) = lines
    assert line.endswith(f" s [{own}]")
    assert client.get("/", headers={"X-Request-ID": "of-a-client"})["X-Request-ID"] != "of-a-client"


@pytest.mark.parametrize(("given", "is_kept"), [("1f-2.A", True), ("a b", False), ("", False)])
def test_request_id__of_a_proxy_is_kept_if_it_is_one(
    settings: Settings, given: str, is_kept: bool
) -> None:
    settings.NINJA_NUM_PROXIES = 1
    response = Client().get("/", headers={"X-Request-ID": given})
    assert (response["X-Request-ID"] == given) == is_kept


def test_line__stays_one_line_whatever_a_file_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.makeLogRecord({"msg": "a\nb\x1b[31m", "name": "x", "levelname": "INFO"})
    assert formatted(record, "line", monkeypatch).endswith(r" INFO x: a\nb\x1b[31m")


def test_json__has_the_lines_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.makeLogRecord(
        {"msg": "Image %d: failed", "args": (7,), "levelname": "INFO", "name": "x", "image": 7}
    )
    found = json.loads(formatted(record, "json", monkeypatch))
    assert datetime.fromisoformat(found.pop("time")).tzinfo == UTC
    assert found == {"level": "INFO", "logger": "x", "message": "Image 7: failed", "image": 7}


def test_format__that_is_unknown_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(ImproperlyConfigured, match="LOG_FORMAT must be line or json, not 'xml'"):
        runpy.run_path(str(ROOT / "thumbsite" / "settings.py"))


def test_favicon__is_there(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    response = client.get("/favicon.ico")
    assert response.status_code == HTTPStatus.OK
    assert response["Content-Type"].startswith("image/")
    assert caplog.records == []
    response.close()

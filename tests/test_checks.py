"""What the system checks say of the settings of the project that the app is installed in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core import checks
from PIL import Image
from pytest_django import Settings

from tests.processes import run_command
from tests.test_conf import other_app
from thumbnails import conf
from thumbnails.checks import TAG
from thumbnails.workers import ThumbnailWorker

FILES = "django.core.files.storage.FileSystemStorage"
MEMORY = "django.core.files.storage.InMemoryStorage"
OURS = "thumbnails.storage.thumbnails.ThumbnailStorage"
CACHES = "django.core.cache.backends"


class OwnWorker(ThumbnailWorker):
    """A project's own."""


def storage(backend: str, **options: object) -> dict[str, Any]:
    return {"BACKEND": backend, "OPTIONS": options}


def s3(**options: object) -> dict[str, Any]:
    """On a server that nothing can be asked of."""
    server = {"endpoint_url": "http://127.0.0.1:9", "access_key": "a", "secret_key": "b"}
    return storage(
        "storages.backends.s3.S3Storage", **{"bucket_name": "files", **server, **options}
    )


@pytest.fixture
def without_settings(settings: Settings) -> Settings:
    """A project that has set none of the app's own settings."""
    for name in conf.prefixed_names():
        delattr(settings, name)
    return settings


def found() -> list[str | None]:
    return [message.id for message in checks.run_checks(tags=[TAG])]


# --- Checks ---------------------------------------------------------------------------------------


def test_checks__have_nothing_to_say_about_the_site() -> None:
    assert checks.run_checks(tags=[TAG], include_deployment_checks=True) == []


@pytest.mark.parametrize(
    ("originals", "thumbnails", "expected"),
    [
        pytest.param(None, {}, ["thumbnails.E001"], id="no-originals"),
        pytest.param({}, None, ["thumbnails.E001"], id="no-thumbnails"),
        pytest.param({}, storage("no.Storage"), ["thumbnails.E001"], id="unknown-class"),
        pytest.param({}, storage(FILES, unknown=1), ["thumbnails.E001"], id="unknown-option"),
        pytest.param({}, storage(FILES, location="/c"), ["thumbnails.E002"], id="files"),
        pytest.param({}, storage(FILES, location="/c", allow_overwrite=True), [], id="overwriting"),
        pytest.param({}, storage(MEMORY), ["thumbnails.E002"], id="memory"),
        pytest.param({}, s3(), [], id="S3"),
        pytest.param({}, s3(file_overwrite=False), ["thumbnails.E002"], id="S3-keeping"),
        pytest.param(s3(), {}, ["thumbnails.E003"], id="S3-originals-replaced"),
        pytest.param(s3(file_overwrite=False), {}, [], id="S3-originals"),
        pytest.param(
            storage(FILES, location="/o", allow_overwrite=True),
            {},
            ["thumbnails.E003"],
            id="originals-replaced",
        ),
        pytest.param(
            storage(FILES, location="/f"),
            storage(OURS, location="/f"),
            ["thumbnails.E004"],
            id="same",
        ),
        pytest.param(
            storage(FILES, location="/f"),
            storage(OURS, location="/f/c"),
            ["thumbnails.E004"],
            id="cache-inside",
        ),
        pytest.param(
            storage(FILES, location="/f/o"),
            storage(OURS, location="/f"),
            ["thumbnails.E004"],
            id="originals-inside",
        ),
        pytest.param(
            storage(FILES, location="/f"), storage(OURS, location="/f-c"), [], id="beside"
        ),
        pytest.param(
            s3(file_overwrite=False), s3(location="c"), ["thumbnails.E004"], id="S3-inside"
        ),
        pytest.param(s3(file_overwrite=False, location="o"), s3(location="c"), [], id="S3-beside"),
        pytest.param(s3(file_overwrite=False), s3(bucket_name="c"), [], id="S3-other-bucket"),
    ],
)
def test_storages__of_the_wrong_kind_or_place_are_errors(
    settings: Settings,
    originals: dict[str, Any] | None,
    thumbnails: dict[str, Any] | None,
    expected: list[str],
) -> None:
    changed = {"originals": originals, "thumbnails": thumbnails}
    settings.STORAGES = {
        alias: changed.get(alias) or known
        for alias, known in settings.STORAGES.items()
        if changed.get(alias, {}) is not None
    }
    assert found() == expected


def test_storages__in_one_folder_by_a_link_are_an_error(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "link").symlink_to("files")
    settings.STORAGES = {
        **settings.STORAGES,
        "originals": storage(FILES, location=tmp_path / "files"),
        "thumbnails": storage(OURS, location=tmp_path / "link" / "cache"),
    }
    assert found() == ["thumbnails.E004"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RQ_QUEUES", {}, ["thumbnails.E006"]),
        ("RQ_QUEUES", {"thumbnails-now": {}}, ["thumbnails.E006"]),
        ("RQ", {}, ["thumbnails.W001"]),
        ("RQ", {"WORKER_CLASS": "rq.worker.Worker"}, ["thumbnails.W001"]),
        ("RQ", {"WORKER_CLASS": "no.Worker"}, ["thumbnails.W001"]),
        ("RQ", {"WORKER_CLASS": f"{__name__}.OwnWorker"}, []),
        ("RQ", {"WORKER_CLASS": OwnWorker}, []),
        ("USE_TZ", False, ["thumbnails.E007"]),
        ("CACHES", {"default": {"BACKEND": f"{CACHES}.locmem.LocMemCache"}}, ["thumbnails.W004"]),
        ("CACHES", {"default": {"BACKEND": f"{CACHES}.dummy.DummyCache"}}, ["thumbnails.W004"]),
        (
            "CACHES",
            {"default": {"BACKEND": f"{CACHES}.filebased.FileBasedCache", "LOCATION": "/c"}},
            ["thumbnails.W004"],
        ),
        ("CACHES", {"default": {"BACKEND": f"{CACHES}.db.DatabaseCache", "LOCATION": "t"}}, []),
    ],
)
def test_project__settings_that_the_app_does_not_work_with(
    settings: Settings, name: str, value: object, expected: list[str]
) -> None:
    setattr(settings, name, value)
    assert found() == expected


@pytest.mark.parametrize(
    ("apps_missing", "expected"),
    [
        (["django_rq"], ["thumbnails.E005"]),
        (["humanize"], ["thumbnails.E005"]),
        (["django_rq", "humanize"], ["thumbnails.E005"] * 2),
        (["humanize", "admin"], []),
    ],
)
def test_apps__missing_ones_are_errors(
    monkeypatch: pytest.MonkeyPatch, apps_missing: list[str], expected: list[str]
) -> None:
    for label in apps_missing:
        monkeypatch.delitem(apps.app_configs, label)
    assert found() == expected


@pytest.mark.parametrize(
    ("values", "app", "expected"),
    [
        ({"THUMBNAIL_QUALITY": 70}, "", []),
        ({"THUMBNAIL_QUALITY": 70}, "easy_thumbnails", ["thumbnails.W002"]),
        ({"THUMBNAIL_QUALITY": 70, "THUMBNAILS": {}}, "sorl.thumbnail", []),
        ({"THUMBNAIL_QUALITY": 70, "THUMBNAILS": {}}, "", ["thumbnails.W003"]),
        ({"THUMBNAIL_DEBUG": True, "THUMBNAILS": {}}, "", []),
        ({"THUMBNAIL_DEBUG": True}, "sorl.thumbnail", []),
    ],
)
def test_names__that_another_package_may_mean_or_that_have_no_effect(
    without_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, object],
    app: str,
    expected: list[str],
) -> None:
    if app:
        monkeypatch.setitem(apps.app_configs, app, other_app(app))
    for name, value in values.items():
        setattr(without_settings, name, value)
    assert found() == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1_000_000, ["thumbnails.W005"]), (10**9, []), (None, [])],
)
def test_pillows_limit__a_stricter_one_is_said_to_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, expected: list[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert found() == expected


# --- In a process ---------------------------------------------------------------------------------

FOREIGN = f"""
from thumbsite.settings import *

STORAGES["thumbnails"] = {storage(FILES, location="/c")}
INSTALLED_APPS.remove("django.contrib.humanize")
USE_TZ = False
THUMBNAIL_SIZE = (200, 200)
THUMBNAILS = {{}}
"""


@pytest.mark.parametrize(("command", "status"), [("check", 1), ("regenerate_thumbnails", 2)])
def test_commands__report_all_errors_at_once_with_a_remedy_and_do_nothing(
    tmp_path: Path, command: str, status: int
) -> None:
    (tmp_path / "foreign.py").write_text(FOREIGN)
    environment = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "foreign"}
    done = run_command([command], {**os.environ, **environment})
    assert done.returncode == status, done.stderr
    for name in ("E002", "E005", "E007", "W003"):
        assert f"(thumbnails.{name})" in done.stderr
    assert done.stderr.count("HINT: ") == 4

"""What tests share: a cache and originals of their own, a real queue, real workers and commands."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.core.files.storage import storages
from django.core.signals import request_started
from django.db import connection
from django.test import Client, TransactionTestCase
from pytest_django import Settings

from tests import pictures, processes
from tests.databases import empty_tables
from tests.plugin import GROUND, Ground
from tests.processes import QUEUES, Worker, database_url
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, recipes
from thumbnails.signals import thumbnails_changed
from thumbnails.upkeep.images import background, importing
from thumbnails.upkeep.runs import starting

# However slow an example is, on a busy machine: time decides no test.
hypothesis.settings.register_profile(
    "timeless", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("timeless")


def pytest_itemcollected(item: pytest.Item) -> None:
    if "process_environment" in getattr(item, "fixturenames", ()):
        item.add_marker("processes")


def pytest_collection_finish() -> None:
    # Modules and tests stay until the end: they need not be looked through for garbage.
    gc.collect()
    gc.freeze()


# --- Files ----------------------------------------------------------------------------------------


@pytest.fixture
def thumbnail_dir(tmp_path: Path) -> Path:
    """The test's own cache; the app makes it."""
    return tmp_path / "thumbnails"


@pytest.fixture
def originals_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "originals"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def own_storages(
    settings: Settings,
    thumbnail_dir: Path,
    originals_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locations = {"thumbnails": thumbnail_dir, "originals": originals_dir}
    settings.THUMBNAIL_DIR = thumbnail_dir
    settings.ORIGINALS_DIR = originals_dir
    settings.STORAGES = {
        alias: {**storage, "OPTIONS": {**storage.get("OPTIONS", {}), "location": locations[alias]}}
        if alias in locations
        else storage
        for alias, storage in settings.STORAGES.items()
    }
    # The field asked for its storage when the model was made.
    field = ImageAsset._meta.get_field("original")
    monkeypatch.setattr(field, "storage", storages["originals"])


class MakeAsset(Protocol):
    def __call__(
        self, data: bytes | None = None, *, name: str = "", session: str = ""
    ) -> ImageAsset: ...


@pytest.fixture
def make_asset(db: None, originals_dir: Path) -> MakeAsset:
    """Put a file among the originals (the scene as a JPEG without `data`) and import it."""
    numbers = itertools.count(1)

    def make(data: bytes | None = None, *, name: str = "", session: str = "") -> ImageAsset:
        path = originals_dir / (name or f"picture-{next(numbers)}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures.jpeg() if data is None else data)
        return importing.import_file(path, session=session)

    return make


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that this process starts have chunks of one image, up to 127 images."""
    monkeypatch.setattr(starting, "CHUNK_AT_LEAST", 1)


@pytest.fixture(autouse=True)
def only_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own process goes by its settings, and asks no database which recipe is in force:
    other processes of a test are given the same settings, or are what the test is about."""
    monkeypatch.setattr(recipes, "LOOK_SECONDS", float("inf"))


request_started.disconnect(recipes.announce_with_first_request)


@pytest.fixture(autouse=True)
def own_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test asks the workers to refresh soon is sent before its end, to no other's queue."""
    requests = background.Requests()
    monkeypatch.setattr(background, "_requests", requests)
    yield
    wait_for(lambda: not requests.is_sending, "the end of the thread that sends")


@pytest.fixture(autouse=True)
def cheap_passwords(settings: Settings) -> None:
    """The site's hasher takes a third of a second each time, on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def quick_clients(settings: Settings) -> None:
    """WhiteNoise looks for a static file when it is asked for, as in development: each new client
    would make it look through all of them first."""
    settings.WHITENOISE_AUTOREFRESH = True


# --- What other apps are told ---------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """The arguments of each `thumbnails_changed` from here on."""
    received: list[dict[str, Any]] = []

    def receive(**arguments: Any) -> None:
        assert arguments.pop("signal") is thumbnails_changed
        assert arguments.pop("sender") is ImageAsset
        received.append(arguments)

    thumbnails_changed.connect(receive)
    yield received
    thumbnails_changed.disconnect(receive)


# --- Servers and processes ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ground(request: pytest.FixtureRequest) -> Ground:
    return request.config.stash[GROUND]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, ground: Ground
) -> None:
    """On SQLite Django would test in memory, where no other process could look."""
    database = django_settings.DATABASES["default"]
    if "sqlite3" in database["ENGINE"]:
        database.setdefault("TEST", {})["NAME"] = str(ground.home / "tests.sqlite3")


@pytest.fixture(scope="session", autouse=True)
def quickly_emptied() -> Iterator[None]:
    """Tests that commit leave empty tables behind, as Django's own way does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty_tables())
        yield


@pytest.fixture
def queue_server(ground: Ground) -> QueueServer:
    """A running, empty Valkey. Tests that do not ask for it find none at REDIS_URL."""
    ground.queue.start()
    ground.queue.flush()
    return ground.queue


@pytest.fixture
def process_environment(
    transactional_db: None, thumbnail_dir: Path, originals_dir: Path
) -> dict[str, str]:
    """For other processes of the site: the test's database, which sees no uncommitted work."""
    name = str(connection.settings_dict["NAME"])
    return {
        **os.environ,
        "DATABASE_URL": database_url(os.environ["DATABASE_URL"], name),
        "THUMBNAIL_DIR": str(thumbnail_dir),
        "ORIGINALS_DIR": str(originals_dir),
    }


class StartWorker(Protocol):
    def __call__(self, *queues: str, cold: bool = False, **environment: str) -> Worker: ...


@pytest.fixture
def worker(
    process_environment: dict[str, str], queue_server: QueueServer, tmp_path: Path
) -> Iterator[StartWorker]:
    """Start a real worker on these queues (all of the app's without any) and settings."""
    workers: list[Worker] = []

    def start(*queues: str, cold: bool = False, **environment: str) -> Worker:
        log = tmp_path / f"worker-{len(workers)}.log"
        new = Worker({**process_environment, **environment}, log, queues or QUEUES, cold=cold)
        workers.append(new)
        new.wait_until_ready()
        return new

    yield start
    for started in workers:
        started.kill()


class Manage(Protocol):
    def __call__(
        self, *arguments: object, answer: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def manage(process_environment: dict[str, str]) -> Manage:
    """Run `manage.py` in a process of its own, on the test's database."""

    def run(
        *arguments: object, answer: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return processes.run_command(
            arguments, {**process_environment, **environment}, answer=answer
        )

    return run


class RunCommand(Protocol):
    def __call__(
        self, name: str, *arguments: object, answer: str = ""
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_command(transactional_db: None) -> RunCommand:
    """Run a command of the app's in this process, with the test's settings and servers."""

    def run(name: str, *arguments: object, answer: str = "") -> subprocess.CompletedProcess[str]:
        return processes.call_command(name, arguments, answer=answer)

    return run


# --- People ---------------------------------------------------------------------------------------


@pytest.fixture
def staff(db: None) -> User:
    """Staff with every permission of the app and no other."""
    user = User.objects.create_user("staff", password="staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="thumbnails"))
    return user


@pytest.fixture
def superuser(admin_user: User) -> User:
    return admin_user


@pytest.fixture
def staff_client(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client

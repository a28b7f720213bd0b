"""Processes of the site in which things go wrong as told, and a place for what was measured."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from django.db import connection

from tests import pictures
from tests.faults.switchboard import Switchboard
from tests.faults.web import WebServer
from tests.plugin import Ground
from tests.processes import QUEUES, ROOT, Session, Worker
from tests.servers import PostgresServer, QueueServer
from tests.waiting import wait_for
from thumbnails.models import ImageAsset
from thumbnails.upkeep.images import importing

MEASURED = pytest.StashKey[list[str]]()
SEED_VARIABLE = "FAULTS_SEED"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that is in this folder, so that it can be run by itself."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


# --- What was measured, and with which seed: said at the end --------------------------------------


class Say(Protocol):
    def __call__(self, text: str) -> None: ...


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """Have something said in the summary, whether the test fails or not."""
    said = request.config.stash.setdefault(MEASURED, [])
    return lambda text: said.append(f"{request.node.name}: {text}")


@pytest.fixture
def chance(say: Say) -> random.Random:
    """Another one each time; its seed is printed and can be given as FAULTS_SEED."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(1_000_000))
    say(f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)  # noqa: S311  which process to kill is not secret


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if said := config.stash.get(MEASURED, []):
        terminalreporter.section("faults")
        for line in said:
            terminalreporter.write_line(line)


# --- The database, and what runs are made of ------------------------------------------------------


@pytest.fixture
def durable_postgres(ground: Ground, transactional_db: None) -> Iterator[PostgresServer]:
    """The tests' own server, made to keep what it commits as a site's does."""
    server = ground.postgres
    if server is None:
        pytest.skip(f"only a PostgreSQL of the tests' own can be durable, not {ground.database}")
    for durable in (True, False):
        server.durable = durable
        server.restart()
        connection.close()
        if durable:
            yield server


@pytest.fixture(autouse=True)
def many_chunks(small_chunks: None) -> None:
    """Faults come between chunks, too."""


# --- Processes ------------------------------------------------------------------------------------


@pytest.fixture
def switchboard(tmp_path: Path) -> Switchboard:
    folder = tmp_path / "switchboard"
    folder.mkdir()
    return Switchboard(folder)


@pytest.fixture
def process_environment(
    process_environment: dict[str, str], switchboard: Switchboard
) -> dict[str, str]:
    return {
        **process_environment,
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        switchboard.VARIABLE: str(switchboard.folder),
        # Brings the decoder's stand-in into the render processes.
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "site"), str(ROOT)]),
    }


class Supervisor:
    """Keeps so many workers alive, as systemd does for a site."""

    def __init__(self, start: Callable[[], Worker], number: int) -> None:
        self._start = start
        self.workers = [start() for _ in range(number)]
        for worker in self.workers:
            worker.wait_until_ready()

    def replace_the_dead(self) -> None:
        self.workers = [worker if worker.running else self._start() for worker in self.workers]

    def are_all_alive(self) -> bool:
        return all(worker.running for worker in self.workers)


class Supervise(Protocol):
    def __call__(self, number: int, **environment: str) -> Supervisor: ...


@pytest.fixture
def supervise(
    process_environment: dict[str, str], queue_server: QueueServer, tmp_path: Path
) -> Iterator[Supervise]:
    """Start so many workers, with these settings, and a supervisor of theirs."""
    started: list[Worker] = []

    def supervise(number: int, **environment: str) -> Supervisor:
        def start() -> Worker:
            log = tmp_path / f"supervised-{len(started)}.log"
            started.append(Worker({**process_environment, **environment}, log, QUEUES))
            return started[-1]

        return Supervisor(start, number)

    yield supervise
    for worker in started:
        worker.kill()


class StartCommand(Protocol):
    def __call__(self, *arguments: object, cold: bool = False, **environment: str) -> Session: ...


@pytest.fixture
def command(process_environment: dict[str, str], tmp_path: Path) -> Iterator[StartCommand]:
    """Start a `manage.py` command with these settings, to run beside the test."""
    started: list[Session] = []

    def start(*arguments: object, cold: bool = False, **environment: str) -> Session:
        log = tmp_path / f"command-{len(started)}.log"
        started.append(Session(arguments, {**process_environment, **environment}, log, cold=cold))
        return started[-1]

    yield start
    for session in started:
        session.kill()


class ServeSite(Protocol):
    def __call__(self, threads: int = 4, /, **environment: str) -> WebServer: ...


@pytest.fixture
def serve_site(process_environment: dict[str, str], tmp_path: Path) -> Iterator[ServeSite]:
    """Start a web server with so many threads and these settings; it answers at once."""
    started: list[WebServer] = []

    def serve(threads: int = 4, /, **environment: str) -> WebServer:
        log = tmp_path / f"web-{len(started)}.log"
        started.append(WebServer({**process_environment, **environment}, log, threads=threads))
        started[-1].wait_until_ready()
        return started[-1]

    yield serve
    for server in started:
        server.kill()


# --- Assets ---------------------------------------------------------------------------------------


class MakeAssets(Protocol):
    def __call__(self, number: int, picture: bytes | None = None) -> list[ImageAsset]: ...


@pytest.fixture
def make_assets(db: None, originals_dir: Path) -> MakeAssets:
    """Import so many pictures, named 0001.jpg and so on; small ones unless one is given."""

    def make(number: int, picture: bytes | None = None) -> list[ImageAsset]:
        content = picture or pictures.jpeg(pictures.scene(32, 24))
        folder = originals_dir / "folder"
        folder.mkdir()
        for n in range(1, number + 1):
            path = folder / f"{n:04}.jpg"
            path.write_bytes(content)
            # Each has a version of its own, by which its thumbnail is known from the others'.
            os.utime(path, ns=(n * 10**9, n * 10**9))
        for result in importing.import_files(importing.find_files([folder])):
            assert result.outcome == importing.ImportOutcome.ADDED
        return list(ImageAsset.objects.order_by("original"))

    return make


def name_of(asset: ImageAsset) -> str:
    """What the switchboard calls it."""
    return Path(str(asset.original.name)).name


def wait_for_begun(switchboard: Switchboard, number: int) -> None:
    wait_for(lambda: switchboard.begun() >= number, f"{number} pictures to be begun", 120)

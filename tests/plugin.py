"""Gives the tests real servers, and the settings the environment that names them.

Loaded by `-p tests.plugin` (pyproject.toml), since all of it must stand before Django reads its
settings: a conftest.py comes too late.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.servers import PostgresServer, QueueServer

DATABASES = ("postgresql", "sqlite")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the tests of one pytest process stand on."""

    home: Path
    """A directory that goes when pytest ends."""
    database: str
    """For people: the database and its version."""
    postgres: PostgresServer | None
    """The server that we started; None on SQLite and on a PostgreSQL that was running already."""
    queue: QueueServer
    """Not started yet: the fixture `queue_server` does it."""


GROUND = pytest.StashKey[Ground]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=DATABASES,
        default="postgresql",
        help="run the tests on this database (default: %(default)s): the PostgreSQL that "
        "DATABASE_URL names, or one that is started for the tests; SQLite in a temporary file",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Go ahead of pytest-django, which loads the settings in this same hook."""
    options = early_config.known_args_namespace
    if not (options.help or options.version):
        # A test process that is asked to end shall end as by Ctrl-C: with its fixtures undone.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # A shell's background job ignores it, and so would the processes that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stack = ExitStack()
        early_config.add_cleanup(stack.close)
        early_config.stash[GROUND] = _prepare(options.database, stack)
    yield


def pytest_report_header(config: pytest.Config) -> list[str]:
    ground = config.stash.get(GROUND, None)
    return [f"database: {ground.database}"] if ground else []


def _prepare(database: str, stack: ExitStack) -> Ground:
    home = Path(tempfile.mkdtemp(prefix="thumbnails-tests-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    queue = QueueServer()
    stack.callback(queue.close)
    postgres = None
    if database == "sqlite":
        url, description = f"sqlite:///{home}/site.sqlite3", f"SQLite {sqlite3.sqlite_version}"
    else:
        url = os.environ.get("DATABASE_URL", "")
        if not url.startswith(("postgres://", "postgresql://")):
            postgres = stack.enter_context(PostgresServer())
            url = postgres.url
        description = _postgres_version(
            url, "started for the tests" if postgres else "DATABASE_URL"
        )
    _set_environment(url, queue.url, home)
    return Ground(home=home, database=description, postgres=postgres, queue=queue)


def _postgres_version(url: str, origin: str) -> str:
    with psycopg.connect(url) as connection:
        return f"PostgreSQL {connection.info.parameter_status('server_version')} ({origin})"


def _set_environment(database_url: str, redis_url: str, home: Path) -> None:
    """Nothing of the site's settings may come from the environment of the tests."""
    os.umask(0o022)  # a cache's folder that a test makes is not to be writable by a group
    for name in list(os.environ):
        if name.startswith("THUMBNAIL_"):
            del os.environ[name]
    # With it each process of the site would compile all modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.update(
        DJANGO_SETTINGS_MODULE="thumbsite.settings",
        DATABASE_URL=database_url,
        DATABASE_SECONDS="",
        REDIS_URL=redis_url,
        SECRET_KEY="only-for-the-tests-" * 3,
        DEBUG="off",
        HTTPS="off",
        ALLOWED_HOSTS="localhost,127.0.0.1,testserver",
        CSRF_TRUSTED_ORIGINS="",
        PROXIES="0",
        THUMBNAIL_DIR=str(home / "thumbnails"),
        ORIGINALS_DIR=str(home / "originals"),
        ORIGINALS_DIRS="",
        # Playwright keeps an event loop in the thread that runs the tests; no test is async.
        DJANGO_ALLOW_ASYNC_UNSAFE="1",
    )

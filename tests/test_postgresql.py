"""The database backend: no query waits for its answer without a limit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DEFAULT_DB_ALIAS,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.migrations.operations import RunPython
from django.db.migrations.state import ProjectState

from tests.conftest import Manage
from tests.plugin import Ground
from thumbnails.models import ApiToken, ImageAsset
from thumbsite.postgresql.base import DatabaseWrapper
from thumbsite.settings import database

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="is about PostgreSQL's backend"),
]

NOT_ANSWERED = "The database has not answered for 1 seconds"


@pytest.fixture
def wrapper() -> Iterator[DatabaseWrapper]:
    """Django's connection, which waits for a second."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    assert isinstance(wrapper, DatabaseWrapper)
    wrapper.ensure_connection()
    wrapper.set_limit(1)
    yield wrapper
    wrapper.set_limit(wrapper.limit_of_settings)
    wrapper.close()


@pytest.fixture
def hang(ground: Ground, wrapper: DatabaseWrapper) -> Iterator[Callable[[], None]]:
    """Stops the server's process behind Django's connection, as a machine without memory does."""
    if ground.postgres is None:
        pytest.skip(f"only the processes of a PostgreSQL of the tests' own, not {ground.database}")
    stopped: list[int] = []

    def hang() -> None:
        pid = wrapper.connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    yield hang
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def answers() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def sleep(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


# --- The limit ------------------------------------------------------------------------------------


def test_settings__put_the_site_on_the_backend() -> None:
    config = database("postgres://me@db.example.org/site")
    assert config["ENGINE"] == "thumbsite.postgresql"
    assert config["OPTIONS"] == {"connect_timeout": 5, "answer_seconds": 30}
    assert connections.settings[DEFAULT_DB_ALIAS]["OPTIONS"]["answer_seconds"] == 30


def test_settings__url_may_say_otherwise() -> None:
    config = database("postgres://me@db.example.org/site?connect_timeout=20&sslmode=require")
    assert config["OPTIONS"]["connect_timeout"] == 20
    assert config["OPTIONS"]["sslmode"] == "require"


@pytest.mark.parametrize("value", ["0", "-1", "3601", "soon"])
def test_settings__wrong_limit_is_named(manage: Manage, value: str) -> None:
    done = manage("check", DATABASE_SECONDS=value)
    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_SECONDS must be a whole number")


def test_settings__limit_of_the_environment_is_in_force(manage: Manage) -> None:
    done = manage("thumbnail_stats", DATABASE_SECONDS="3600")
    assert done.returncode == 0, done.stderr


def test_slow_query__is_given_up_and_the_connection_closed(wrapper: DatabaseWrapper) -> None:
    with pytest.raises(OperationalError, match=NOT_ANSWERED):
        sleep(60)
    assert wrapper.connection.closed
    wrapper.close_if_unusable_or_obsolete()  # as at the end of a request
    assert answers()
    assert wrapper.connection.answer_seconds == 1


def test_quick_queries__may_take_longer_together(wrapper: DatabaseWrapper) -> None:
    for _ in range(3):
        sleep(0.4)
    assert answers()


# --- A server that hangs --------------------------------------------------------------------------


def test_hanging_server__a_query_is_given_up(hang: Callable[[], None]) -> None:
    assert answers()
    hang()
    with pytest.raises(OperationalError, match=NOT_ANSWERED):
        answers()
    connection.close()
    assert answers()


def test_hanging_server__the_health_check_makes_a_new_connection(
    hang: Callable[[], None], wrapper: DatabaseWrapper
) -> None:
    hung = wrapper.connection
    wrapper.close_if_unusable_or_obsolete()  # as at the start of a request
    hang()
    assert answers()
    assert hung.closed
    assert wrapper.connection is not hung


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_hanging_server__query_in_atomic_blocks(hang: Callable[[], None], depth: int) -> None:
    def nested(depth: int) -> None:
        with transaction.atomic():
            ImageAsset.objects.create(original=f"{depth}.jpg")
            if depth > 1:
                nested(depth - 1)
            else:
                hang()
                ImageAsset.objects.create(original="last.jpg")

    with pytest.raises(OperationalError, match=NOT_ANSWERED):
        nested(depth)
    assert_usable_and_empty()


def test_hanging_server__commit(hang: Callable[[], None]) -> None:
    def write_and_hang() -> None:
        with transaction.atomic():
            ImageAsset.objects.create(original="a.jpg")
            hang()

    with pytest.raises(OperationalError, match=NOT_ANSWERED):
        write_and_hang()
    # The server has COMMIT in its socket and may still do it: that cannot be known.
    assert not connection.in_atomic_block
    assert answers()


def test_hanging_server__rollback(hang: Callable[[], None]) -> None:
    def write_hang_and_fail() -> None:
        with transaction.atomic():
            ImageAsset.objects.create(original="a.jpg")
            hang()
            raise IntegrityError("the program's own")

    with pytest.raises(IntegrityError, match="the program's own"):
        write_hang_and_fail()
    assert_usable_and_empty()


def test_hanging_server__savepoint(hang: Callable[[], None]) -> None:
    def fail_within() -> None:
        with transaction.atomic():
            ImageAsset.objects.create(original="a.jpg")
            with transaction.atomic():
                hang()
                raise IntegrityError("the program's own")

    with pytest.raises(IntegrityError, match="the program's own"):
        fail_within()
    assert_usable_and_empty()


def assert_usable_and_empty() -> None:
    assert not connection.in_atomic_block
    assert connection.get_autocommit()
    assert not ImageAsset.objects.exists()


# --- What goes on as before -----------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [True, False])
def test_iterator__reads_by_a_server_side_cursor(wrapper: DatabaseWrapper, atomic: bool) -> None:
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{n}.jpg") for n in range(250))
    read = ImageAsset.objects.order_by("pk").values_list("pk").iterator(chunk_size=100)
    if atomic:
        with transaction.atomic():
            assert len(list(read)) == 250
    else:
        assert len(list(read)) == 250


@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
def test_hanging_server__in_the_middle_of_an_iterator(hang: Callable[[], None]) -> None:
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{n}.jpg") for n in range(250))
    read = ImageAsset.objects.order_by("pk").iterator(chunk_size=100)
    next(read)
    hang()
    with pytest.raises(OperationalError, match=NOT_ANSWERED):
        list(read)
    connection.close()
    assert answers()


def test_errors__are_djangos_own(wrapper: DatabaseWrapper, staff: object) -> None:
    token = ApiToken.objects.create(user=staff, name="a", digest="a")  # type: ignore[misc]
    token.pk = None
    with pytest.raises(IntegrityError):
        token.save(force_insert=True)


# --- Migrations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [True, False])
def test_schema_editor__waits_for_as_long_as_it_takes(
    wrapper: DatabaseWrapper, atomic: bool
) -> None:
    with connection.schema_editor(atomic=atomic) as editor:
        editor.execute("SELECT pg_sleep(1.5)")
    assert wrapper.connection.answer_seconds == wrapper.limit_of_settings == 30


def test_migration_of_data__waits_for_as_long_as_it_takes(wrapper: DatabaseWrapper) -> None:
    state = ProjectState()
    with connection.schema_editor() as editor:
        RunPython(lambda *_: sleep(1.5)).database_forwards("thumbnails", editor, state, state)


def test_schema_editor__failure_brings_the_limit_back(wrapper: DatabaseWrapper) -> None:
    with pytest.raises(ImproperlyConfigured), connection.schema_editor():
        raise ImproperlyConfigured("as a migration may")
    assert wrapper.connection.answer_seconds == 30

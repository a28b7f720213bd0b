"""The commands of docs/moving-in.md, against an old service that is still running."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from django.core.files.storage import storages
from PIL import Image
from pytest_django import Settings

from tests import pictures
from tests.plugin import Ground
from tests.processes import COMMAND_SECONDS, ROOT, database_url
from tests.servers import postgres_binaries
from thumbnails.models import ImageAsset, State, TrainingSession
from thumbnails.storage.names import name_for

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = (ROOT / "docs" / "moving-in.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MIGRATE, EXPORT, DRY_RUN, IMPORT, ADOPT, TURNED, REST, SYNC, WAY_BACK = BLOCKS
ROOTS = ("photos", "nas", "scans")
TABLES = """
    CREATE TABLE image_assets (
        id bigserial PRIMARY KEY, path text, created_at timestamptz, thumbnail_path text
    );
    CREATE TABLE training_sessions (id bigserial PRIMARY KEY, name text);
    CREATE TABLE session_images (session_id bigint, image_id bigint);
    INSERT INTO training_sessions (name) VALUES ('Winter'), ('Winter');
"""
OLD_SIZE = (60, 40)


@dataclass
class OldService:
    """Its originals are in three folders; its thumbnails are by the last digit, and lie on their
    side."""

    url: str
    home: Path
    ids: list[int] = field(default_factory=list)

    @property
    def thumbnails(self) -> Path:
        return self.home / "old-thumbnails"

    def root(self, name: str) -> Path:
        return self.home / "roots" / name

    def add(self, database: psycopg.Connection[tuple[int]], number: int) -> int:
        folder = self.root(ROOTS[number % 3]) / "2019"
        folder.mkdir(parents=True, exist_ok=True)
        original = folder / f"photo {number}.jpg"
        original.write_bytes(pictures.jpeg(orientation=6 if number % 2 else 1))
        row = database.execute(
            "INSERT INTO image_assets (path, created_at) VALUES (%s, now()) RETURNING id",
            [str(original)],
        ).fetchone()
        assert row is not None
        image_id = row[0]
        thumbnail = Path(str(image_id % 10)) / f"{image_id}.jpg"
        (self.thumbnails / thumbnail).parent.mkdir(parents=True, exist_ok=True)
        (self.thumbnails / thumbnail).write_bytes(pictures.jpeg(Image.new("RGB", OLD_SIZE)))
        database.execute(
            "UPDATE image_assets SET thumbnail_path = %s WHERE id = %s", [str(thumbnail), image_id]
        )
        sessions = [1, 2] if number == 0 else [1 + number % 2]
        for session in sessions:
            database.execute("INSERT INTO session_images VALUES (%s, %s)", [session, image_id])
        self.ids.append(image_id)
        return image_id


@pytest.fixture
def old_service(ground: Ground, tmp_path: Path) -> Iterator[OldService]:
    """With a database of its own on the tests' server."""
    if ground.postgres is None:
        pytest.skip("the old service needs the PostgreSQL that the tests start")
    with psycopg.connect(ground.postgres.url, autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS old")
        server.execute("CREATE DATABASE old")
    service = OldService(database_url(ground.postgres.url, "old"), tmp_path / "old")
    with psycopg.connect(service.url, autocommit=True) as database:
        database.execute(TABLES)
        for number in range(30):
            service.add(database, number)
    for name in ROOTS[:1]:
        service.root(name).chmod(0o555)  # read-only
    yield service
    service.root(ROOTS[0]).chmod(0o755)


@pytest.fixture
def roots(settings: Settings, old_service: OldService) -> dict[str, str]:
    """As ORIGINALS_DIRS sets them, for the tests' own process."""
    roots = {name: str(old_service.root(name)) for name in ROOTS}
    options = {**settings.STORAGES["originals"]["OPTIONS"], "roots": roots}
    settings.STORAGES = {
        **settings.STORAGES,
        "originals": {**settings.STORAGES["originals"], "OPTIONS": options},
    }
    ImageAsset._meta.get_field("original").storage = storages["originals"]
    return roots


def test_page__moves_a_service_in_and_back(
    old_service: OldService,
    roots: dict[str, str],
    process_environment: dict[str, str],
    tmp_path: Path,
    thumbnail_dir: Path,
) -> None:
    environment = {
        **process_environment,
        "ORIGINALS_DIRS": ",".join(f"{name}={folder}" for name, folder in roots.items()),
        "OLD_DATABASE": old_service.url,
        "OLD_THUMBNAILS": str(old_service.thumbnails),
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), str(postgres_binaries()), os.environ["PATH"]]
        ),
        "PYTHONPATH": str(ROOT),
    }
    exported = re.findall(r"^    export (\w+)=", PAGE, re.MULTILINE)
    assert set(exported) <= environment.keys()
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")

    def run(block: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", block],
            check=False,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        return done.stdout

    run(MIGRATE)
    run(EXPORT)
    assert "30 added" in run(DRY_RUN)
    assert not ImageAsset.objects.exists()
    with still_writing(old_service) as written:
        assert "30 added" in run(IMPORT)
    assert written

    first = ImageAsset.objects.get(pk=old_service.ids[0])
    assert str(first.original.name) == "photos/2019/photo 0.jpg"
    assert list(first.sessions.values_list("name", flat=True)) == ["Winter", "Winter"]
    assert TrainingSession.objects.count() == 2
    unstamped = ImageAsset.objects.filter(thumbnail_recipe="unstamped")
    assert unstamped.count() == unstamped.stale().count() == 30
    with Image.open(thumbnail_dir / name_for(first.pk)) as old:
        assert old.size == OLD_SIZE
    run(ADOPT)

    run(TURNED)
    assert ImageAsset.objects.fresh().count() == 15
    assert set(ImageAsset.objects.fresh().values_list("orientation", flat=True)) == {6}
    run(REST)
    assert ImageAsset.objects.fresh().count() == 30

    new_here = ImageAsset.objects.create(original="uploaded.jpg")
    assert f"{len(written)} added, 0 updated, 30 unchanged" in run(SYNC)
    assert new_here.pk > 100_000 > max(old_service.ids)
    assert set(ImageAsset.objects.values_list("pk", flat=True)) == {*old_service.ids, new_here.pk}
    assert ImageAsset.objects.in_state(State.STALE).count() == len(written)

    run(WAY_BACK)
    with (tmp_path / "here.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["id"] == str(new_here.pk)
    assert len(rows) == len(old_service.ids) + 1


@contextmanager
def still_writing(service: OldService) -> Iterator[list[int]]:
    """The old service goes on to add images; yields the ids of these."""
    done = threading.Event()
    written: list[int] = []

    def write() -> None:
        with closing(psycopg.connect(service.url, autocommit=True)) as database:
            for number in range(1003, 1060, 3):
                written.append(service.add(database, number))
                if done.wait(0.05):
                    return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        done.set()
        thread.join()

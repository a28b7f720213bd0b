"""Processes of the former release on the new schema: between `migrate` and their restart.

`former_release.tar.xz` has their code. With each release, that of the release before is put there:

    git archive RELEASE thumbnails thumbsite manage.py | xz -9e > tests/former_release.tar.xz
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import pictures
from tests.processes import COMMAND_SECONDS
from tests.servers import QueueServer
from thumbnails.models import ImageAsset, Run, RunRoot, SessionImage, TrainingSession
from thumbnails.models.recipes import KnownRecipe
from thumbnails.upkeep.images import freshness

pytestmark = pytest.mark.django_db(transaction=True)

ARCHIVE = Path(__file__).with_name("former_release.tar.xz")

WORK = """
import json, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from thumbnails import jobs
from thumbnails.models import Chunk, ImageAsset, Run, TrainingSession

assets = {asset.title: asset for asset in ImageAsset.objects.all()}
sea = TrainingSession.objects.get(name="sea")
public, staff = Client(), Client()
staff.force_login(User.objects.create_superuser("former"))

# The public loads a thumbnail, and staff the pages of an image and of all.
statuses = [
    public.get(assets["boat"].thumbnail_url).status_code,
    staff.get("/admin/thumbnails/imageasset/").status_code,
    staff.get(f"/admin/thumbnails/imageasset/{assets['boat'].pk}/change/").status_code,
]
# A worker does the chunks of a run.
for chunk in Chunk.objects.filter(run__state="running", finished_at=None):
    jobs.work_chunk(chunk.pk)
# An image goes into another session, another one into none.
TrainingSession.objects.create(name="land")
for title, session in ("tree", TrainingSession.objects.get(name="land")), ("sky", None):
    assets[title].session = session
    assets[title].save()

def delete(model, row):
    page = f"/admin/thumbnails/{model}/{row.pk}/delete/"
    statuses.append(staff.post(page, {"post": "yes"}).status_code)

delete("imageasset", assets["fish"])
delete("trainingsession", TrainingSession.objects.get(name="empty"))
delete("trainingsession", TrainingSession.objects.get(name="old"))
delete("run", Run.objects.earliest("pk"))
call_command("import_images", sys.argv[1], "--session", "sea", "--json")
call_command("regenerate_thumbnails", "--json")
print(json.dumps(statuses))
"""
"""What processes of the former release do: with its web server, its worker, its admin."""


@pytest.fixture
def former(process_environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Run Python with the former release's code to its end, and return what it prints."""
    home = tmp_path / "former"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(home, filter="data")
    environment = {**process_environment, "DJANGO_SETTINGS_MODULE": "thumbsite.settings"}

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def sessions() -> dict[str, list[str]]:
    """The titles of the images in each session, by its name."""
    found: dict[str, list[str]] = {name: [] for name in names(TrainingSession.objects.all())}
    for member in SessionImage.objects.select_related("session", "image").order_by("pk"):
        assert member.created_at == member.image.created_at
        found[member.session.name].append(member.image.title)
    return {name: sorted(titles) for name, titles in found.items()}


def names(rows: Any) -> list[str]:
    return [row.name for row in rows]


def test_former_release__goes_on_with_the_new_schema(
    former: Callable[..., str],
    queue_server: QueueServer,
    originals_dir: Path,
    make_picture: Callable[[str], Path],
) -> None:
    for name in "boat", "fish", "tree", "sky":
        make_picture(name)
    former("manage.py", "import_images", originals_dir, "--session", "sea")
    old = TrainingSession.objects.create(name="old")
    TrainingSession.objects.create(name="empty")
    boat = ImageAsset.objects.get(original="boat.jpg")
    SessionImage.objects.add([(old.pk, boat.pk, boat.created_at)])
    former("manage.py", "regenerate_thumbnails")
    RunRoot.objects.create(run=Run.objects.get(), root="", storage_errors=1)
    former("manage.py", "regenerate_thumbnails", "--force", "--enqueue")

    answered = former("-c", WORK, make_picture("late")).splitlines()[-1]
    assert json.loads(answered) == [200, 200, 200, 302, 302, 302, 302]
    assert [run.state for run in Run.objects.all()] == ["done", "done"]
    assert sessions() == {"sea": ["boat", "late"], "land": ["tree"]}
    their_recipe = KnownRecipe.objects.get().digest
    rendered = ImageAsset.objects.filter(thumbnail_recipe=their_recipe)
    assert rendered.count() == ImageAsset.objects.count() == 4
    boat.refresh_from_db()
    assert boat.thumbnail_revision == 2
    # And of this release on what the former one made.
    late = ImageAsset.objects.get(original="late.jpg")
    purged = freshness.purge_now(late.pk)
    assert purged is not None
    late.delete()
    assert sessions() == {"sea": ["boat"], "land": ["tree"]}


@pytest.fixture
def make_picture(originals_dir: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = originals_dir / f"{name}.jpg"
        path.write_bytes(pictures.jpeg())
        return path

    return make

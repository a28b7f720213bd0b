"""Everything at once: runs, purges, new originals, readers, and processes that die or stand still.

A series of events is drawn by chance. When it is over and all that was stopped goes on, what the
database, the disk and the readers say has to fit together.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from django.test import Client
from PIL import Image

from tests import pictures
from tests.conftest import Manage
from tests.faults.conftest import (
    SEED_VARIABLE,
    Say,
    ServeSite,
    StartCommand,
    Supervise,
    Supervisor,
)
from tests.faults.switchboard import Poison, Switchboard
from tests.faults.web import ANSWER_SECONDS, Answer, WebServer
from tests.pictures import Colour
from tests.processes import Session
from tests.runs import start_run
from tests.servers import PostgresServer
from tests.waiting import is_alive, wait_for
from thumbnails.exceptions import NotDispatched, NotNow, Reason, UsageError
from thumbnails.models import ApiToken, Chunk, ImageAsset, Outcome, Run, RunEvent, State, clock
from thumbnails.models.recipes import own_recipe
from thumbnails.models.results import Read, Record, Result, save_results
from thumbnails.rendering import read_stamp
from thumbnails.rendering.render import render
from thumbnails.storage import originals
from thumbnails.storage.names import name_for
from thumbnails.upkeep.images import importing
from thumbnails.upkeep.runs import control, starting

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="kills a PostgreSQL"),
]

SEED = 4
"""The series of events that is played unless FAULTS_SEED says another one."""
ASSETS, UPLOADED_FROM = 1000, 900
"""The originals of the last ones are replaced by an upload, those of the others in their place."""
CHAOS_SECONDS, EVENTS = 40.0, 100
LONG_STOP_SECONDS = 22.0
"""Longer than a lease (15 s), and than others wait for a lock (twice RENDER_SECONDS)."""
RENDER_SECONDS = 10
SETTINGS = {
    "DATABASE_SECONDS": "3",
    "THUMBNAIL_RENDER_SECONDS": str(RENDER_SECONDS),
    "THUMBNAIL_WEB_WAITING": "8",
}
READERS, READ_SECONDS = 3, 0.08
PATIENCE_SECONDS = 180.0
"""For all runs to end, once all goes on."""
RENDERER = "thumbnails.rendering.process"
AWAY = (OperationalError, InterfaceError)
NEAR = 10
"""By so much a colour may differ after two JPEGs."""
SHOWN = 20


# --- Pictures -------------------------------------------------------------------------------------


def picture(colour: Colour) -> bytes:
    return pictures.jpeg(Image.new("RGB", (32, 24), colour))


def colour_in(content: bytes) -> Colour:
    """The colour of a picture that has but one, wherever it is looked at."""
    image = pictures.opened(content).convert("RGB")
    red, green, blue = (round((low + high) / 2) for low, high in image.getextrema())  # type: ignore[misc]
    return red, green, blue


def is_near(one: Colour, other: Colour) -> bool:
    return all(abs(a - b) <= NEAR for a, b in zip(one, other, strict=True))


class Gallery:
    """What the pictures ought to look like, and what may have become of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self.ids: list[int] = []
        self.paths: dict[int, Path] = {}
        self.colours: dict[int, list[Colour]] = {}
        """Of each picture, all that it ever had."""
        self.colour_of_stamp: dict[str, Colour] = {}
        self.deleted: set[int] = set()
        """Or just being deleted, or it was tried."""
        self.uploaded: set[int] = set()
        """Got a new original by an upload, or it was tried: their thumbnail went."""
        self.poisoned: set[int] = set()
        self.with_thumbnail: set[int] = set()
        """It was seen that they had one."""

    def fill(self) -> None:
        self._folder.mkdir()
        paths = [self._folder / f"{number:04}.jpg" for number in range(ASSETS)]
        colours = [self._write(path) for path in paths]
        for result in importing.import_files(importing.find_files([self._folder])):
            assert result.outcome == importing.ImportOutcome.ADDED
        self.ids = list(ImageAsset.objects.order_by("original").values_list("pk", flat=True))
        self.paths = dict(zip(self.ids, paths, strict=True))
        self.colours = {pk: [colour] for pk, colour in zip(self.ids, colours, strict=True)}

    def hang_up(self, cache: Path, asset_ids: Iterable[int]) -> None:
        """Give them their thumbnails, as a run would, but without its processes."""
        recipe, results = own_recipe(), []
        for asset in ImageAsset.objects.filter(pk__in=asset_ids):
            done = render(
                BytesIO(self.paths[asset.pk].read_bytes()),
                recipe,
                fingerprint=asset.fingerprint,
                max_pixels=10**6,
            )
            path = cache / asset.thumbnail_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(done.content)
            record = Record(
                thumbnail_path=asset.thumbnail_name,
                thumbnail_width=done.width,
                thumbnail_height=done.height,
                thumbnail_bytes=len(done.content),
                thumbnail_generated_at=clock.now(),
                thumbnail_recipe=recipe.digest,
                thumbnail_source=asset.source_version,
            )
            results.append(
                Result(
                    asset_id=asset.pk, outcome=Outcome.RENDERED, read=Read.of(asset), record=record
                )
            )
        assert not save_results(results)

    def replace(self, asset_id: int) -> Path:
        """Another picture in the original's place, of another time."""
        path = self.paths[asset_id]
        self.colours[asset_id].append(self._write(path))
        return path

    def new_colour(self, asset_id: int) -> Colour:
        self.colours[asset_id].append(self._next_colour())
        return self.colours[asset_id][-1]

    def note_thumbnails(self) -> None:
        has_one = ImageAsset.objects.exclude(thumbnail_path="").values_list("pk", flat=True)
        self.with_thumbnail |= set(has_one)

    def _next_colour(self) -> Colour:
        self._made += 1
        number = self._made * 1237 % 4096
        return number % 16 * 16 + 7, number // 16 % 16 * 16 + 7, number // 256 * 16 + 7

    def _write(self, path: Path) -> Colour:
        colour = self._next_colour()
        temporary = self._folder.parent / "new.jpg"
        temporary.write_bytes(picture(colour))
        # Each has a version of its own, by which its thumbnail is known from all others.
        os.utime(temporary, ns=(self._made * 10**9, self._made * 10**9))
        stamp = own_recipe().fingerprint(originals.version_from(temporary.stat()))
        self.colour_of_stamp[stamp] = colour
        temporary.replace(path)
        return colour


# --- The site -------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Site:
    """The processes of the site, each replaced when it is dead."""

    postgres: PostgresServer
    workers: Supervisor
    serve: Callable[[], WebServer]
    start_command: Callable[..., Session]
    web: WebServer
    regenerations: list[Session] = field(default_factory=list)
    imports: list[tuple[float, Session]] = field(default_factory=list)
    """And when they began."""
    stopped: list[threading.Timer] = field(default_factory=list)
    web_hurt_at: list[float] = field(default_factory=list)
    """When a process of a web server was killed."""
    database_hurt: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it was away."""
    wrong: list[str] = field(default_factory=list)
    """What may not be."""

    def replace_the_dead(self) -> None:
        for worker in self.workers.workers:
            if not worker.running and (status := worker.wait()) != -signal.SIGKILL:
                self.wrong.append(f"a worker ended with {status}:\n{worker.log[-3000:]}")
        self.workers.replace_the_dead()
        if not self.web.running:
            self.web = self.serve()

    def command(self) -> Session | None:
        """The regeneration that is at work."""
        return next((command for command in self.regenerations if command.running), None)

    def was_web_hurt(self, since: float) -> bool:
        return any(at >= since - 1 for at in self.web_hurt_at)

    def was_database_hurt(self, since: float) -> bool:
        return any(end >= since - 1 for _, end in self.database_hurt)

    def hurt_web(self, hurt: Callable[[], None]) -> None:
        self.web_hurt_at.append(time.monotonic())
        hurt()
        self.web_hurt_at.append(time.monotonic())

    def stop_for(self, seconds: float, *processes: psutil.Process) -> None:
        """Let them stand still for so long."""
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        self._later(seconds, lambda: resume(processes))

    def hang_database_for(self, seconds: float) -> None:
        stack = ExitStack()
        stack.enter_context(self.postgres.hanging())
        since = time.monotonic()
        self.database_hurt.append((since, float("inf")))

        def go_on() -> None:
            stack.close()
            self.database_hurt[-1] = (since, time.monotonic())

        self._later(seconds, go_on)

    def kill_database_for(self, seconds: float) -> None:
        since = time.monotonic()
        self.database_hurt.append((since, float("inf")))
        self.postgres.kill()
        time.sleep(seconds)
        self.postgres.start()
        connection.close()
        self.database_hurt[-1] = (since, time.monotonic())

    @property
    def is_database_away(self) -> bool:
        return bool(self.database_hurt) and self.database_hurt[-1][1] == float("inf")

    def let_all_go_on(self) -> None:
        for timer in self.stopped:
            timer.join(LONG_STOP_SECONDS + 10)
            assert not timer.is_alive()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()
        self.stopped.append(timer)


def resume(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def renderers_of(session: Session) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(filter(is_renderer, psutil.Process(session.pid).children(recursive=True)))
    return []


def is_renderer(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return RENDERER in process.cmdline()
    return False


def orphaned_renderers(switchboard: Switchboard) -> list[psutil.Process]:
    """The render processes of this test whose parent has gone."""

    def is_ours(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.environ().get(switchboard.VARIABLE) == str(switchboard.folder)
        return False

    def has_parent(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.ppid() > 1
        return False

    living = [process for process in psutil.process_iter() if is_alive(process)]
    found = filter(is_ours, filter(is_renderer, living))
    return [process for process in found if not has_parent(process)]


# --- People ---------------------------------------------------------------------------------------


def path_of(asset_id: int, version: str) -> str:
    return f"/thumbnails/{name_for(asset_id)}" + (f"?v={version}" if version else "")


class Reader(threading.Thread):
    """Looks at one picture after the other, as the public does."""

    def __init__(self, site: Site, gallery: Gallery, seed: int) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._gallery = gallery
        self._chance = random.Random(seed)  # noqa: S311
        self._ended = threading.Event()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        """What may not be."""

    def run(self) -> None:
        try:
            while not self._ended.wait(READ_SECONDS):
                self._look()
        except Exception as error:  # noqa: BLE001  for the test to see
            self.wrong.append(f"the reader itself failed: {error!r}")
        finally:
            connection.close()

    def end(self) -> None:
        self._ended.set()
        self.join(2 * ANSWER_SECONDS)
        if self.is_alive():
            self.wrong.append("a reader waits for ever")

    def _look(self) -> None:
        asset_id = self._chance.choice(self._gallery.ids)
        version = self._version_of(asset_id) if self._chance.random() < 0.6 else ""
        web, began = self._site.web, time.monotonic()
        try:
            answer = web.get(path_of(asset_id, version))
        except TimeoutError:
            self.wrong.append(f"{asset_id}: no answer for {ANSWER_SECONDS:g} s")
        except (OSError, HTTPException) as error:
            self.answers["broken off"] += 1
            if web.running and not self._site.was_web_hurt(began):
                self.wrong.append(f"{asset_id}: {error!r} by a web server that lives")
        else:
            self.answers[str(answer.status)] += 1
            self.wrong += [
                f"{asset_id}?v={version}: {w}" for w in self._faults(asset_id, version, answer)
            ]

    def _version_of(self, asset_id: int) -> str:
        """As the rows say at this moment; none where there is no such row, or no answer."""
        try:
            asset = ImageAsset.objects.filter(pk=asset_id).first()
        except AWAY:
            connection.close()
            return ""
        return "" if asset is None else asset.fingerprint

    def _faults(self, asset_id: int, version: str, answer: Answer) -> Iterator[str]:
        match answer.status:
            case HTTPStatus.OK:
                yield from self._faults_of_picture(asset_id, version, answer)
            case HTTPStatus.NOT_FOUND:
                if asset_id not in self._gallery.deleted | self._gallery.poisoned:
                    yield "404, though its original was always there and good"
            case HTTPStatus.SERVICE_UNAVAILABLE:
                pass
            case _:
                yield f"{answer.status} {answer.body[:200]!r}"

    def _faults_of_picture(self, asset_id: int, version: str, answer: Answer) -> Iterator[str]:
        try:
            colour = colour_in(answer.body)
        except OSError as error:
            yield f"broken: {error}"
            return
        stamp = read_stamp(answer.body)
        if not any(is_near(colour, known) for known in self._gallery.colours[asset_id]):
            yield f"another image's picture: {colour}"
        expected = self._gallery.colour_of_stamp.get(stamp or "")
        if expected is not None and not is_near(colour, expected):
            yield f"{colour} under the stamp of {expected}"
        if "immutable" in answer.headers.get("cache-control", "") and stamp != version:
            yield f"for ever {stamp}"


def post(web: WebServer, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", web.log)
    assert found is not None
    asking = HTTPConnection("127.0.0.1", int(found[1]), timeout=ANSWER_SECONDS)
    try:
        asking.request("POST", path, body, headers)
        response = asking.getresponse()
        return response.status, response.read()
    finally:
        asking.close()


class Staff:
    """Asks for this and that over HTTP."""

    def __init__(self, site: Site, user: User) -> None:
        self._site = site
        _, self._secret = ApiToken.objects.issue(user, "chaos")
        client = Client()
        client.force_login(user)
        self._session = client.cookies["sessionid"].value
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []

    def call(self, path: str, body: dict[str, object] | None = None) -> None:
        """The API, with a token."""
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"}
        sent = b"" if body is None else json.dumps(body).encode()
        self._post(f"/api/v1/admin/thumbnails/{path}", sent, headers)

    def upload(self, asset_id: int, content: bytes) -> None:
        """The asset's page in the admin, with a new original."""
        token, boundary = "t" * 32, secrets.token_hex(16)
        parts = [
            ('name="csrfmiddlewaretoken"', token.encode()),
            ('name="replacement"; filename="new.jpg"\r\nContent-Type: image/jpeg', content),
        ]
        body = b"".join(
            b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n"
            % (boundary.encode(), head.encode(), value)
            for head, value in parts
        )
        headers = {
            "Cookie": f"sessionid={self._session}; csrftoken={token}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        path = f"/admin/thumbnails/imageasset/{asset_id}/change/"
        self._post(path, body + f"--{boundary}--\r\n".encode(), headers)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        web, began = self._site.web, time.monotonic()
        try:
            status, answer = post(web, path, body, headers)
        except TimeoutError:
            self.wrong.append(f"{path}: no answer for {ANSWER_SECONDS:g} s")
        except (OSError, HTTPException) as error:
            self.answers["broken off"] += 1
            if web.running and not self._site.was_web_hurt(began):
                self.wrong.append(f"{path}: {error!r} by a web server that lives")
        else:
            self.answers[str(status)] += 1
            if (
                status >= HTTPStatus.INTERNAL_SERVER_ERROR
                and status != HTTPStatus.SERVICE_UNAVAILABLE
            ):
                self.wrong.append(f"{path}: {status} {answer[:300]!r}")
            if status in {400, 401, 403, 422}:
                self.wrong.append(f"{path}: the test's own mistake: {status} {answer[:300]!r}")
            if status == HTTPStatus.OK:
                said = re.findall(rb'<ul class="errorlist[^>]*>(.*?)</ul>', answer, re.DOTALL)
                self.answers[f"200 {said!r}"] += 1


# --- What happens ---------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Chaos:
    """All that events act on."""

    chance: random.Random
    site: Site
    gallery: Gallery
    staff: Staff
    switchboard: Switchboard
    happened: Counter[str] = field(default_factory=Counter)

    def some(self, number: int) -> list[int]:
        """Ids of so many images that are there, side by side."""
        ids = [i for i in self.gallery.ids if i not in self.gallery.deleted]
        first = self.chance.randrange(max(1, len(ids) - number))
        return ids[first : first + number]

    def some_but_poisoned(self, number: int) -> list[int]:
        return [i for i in self.some(number) if i not in self.gallery.poisoned]

    def run_in(self, *states: Run.State) -> Run | None:
        found = list(Run.objects.filter(state__in=states).order_by("pk"))
        return self.chance.choice(found) if found else None

    def play(self, plan: list[tuple[float, Event]]) -> None:
        began = time.monotonic()
        for at, event in plan:
            while time.monotonic() < began + at:
                self.site.replace_the_dead()
                time.sleep(0.05)
            self.site.replace_the_dead()
            self.happen(event)

    def happen(self, event: Event) -> None:
        try:
            came = event(self)
        except AWAY:
            connection.close()
            came = "database away"
        except (UsageError, NotDispatched, psutil.NoSuchProcess) as error:
            came = type(error).__name__
        self.happened[event.__name__ if came is None else f"{event.__name__} ({came})"] += 1


Event = Callable[[Chaos], str | None]
"""Gives None where it happened, and otherwise why it did not."""
NOT_NOW = "not now"


# Runs


def start_by_rows(chaos: Chaos) -> str | None:
    if Run.objects.running().count() >= RUNS_AT_ONCE:
        return NOT_NOW
    number = chaos.chance.choice([20, 100, 300, 600])
    assets = ImageAsset.objects.filter(pk__in=chaos.some(number))
    start_run(assets, force=chaos.chance.random() < 0.5)
    return None


def start_by_api(chaos: Chaos) -> str | None:
    if Run.objects.running().count() >= RUNS_AT_ONCE:
        return NOT_NOW
    ids = chaos.some(chaos.chance.choice([10, 200]))
    force = chaos.chance.random() < 0.5
    chaos.staff.call("regenerate", {"assetIds": ids, "force": force})
    return None


def start_command(chaos: Chaos) -> str | None:
    """One of two over the same images each time: it goes on with what the last one left."""
    if chaos.site.command() is not None:
        return NOT_NOW
    ids = chaos.gallery.ids
    first = chaos.chance.choice([0, ASSETS // 2])
    some = f"{ids[first]}-{ids[first + 400]}"
    command = chaos.site.start_command(
        "regenerate_thumbnails", "--force", "--ids", some, **SETTINGS
    )
    chaos.site.regenerations.append(command)
    return None


def purge_by_rows(chaos: Chaos) -> str | None:
    ids = chaos.some_but_poisoned(chaos.chance.choice([1, 10, 60]))
    start_run(ImageAsset.objects.filter(pk__in=ids), kind=Run.Kind.PURGE)
    return None


def purge_by_api(chaos: Chaos) -> str | None:
    chaos.staff.call("purge", {"assetIds": chaos.some_but_poisoned(30)})
    return None


def cancel(chaos: Chaos) -> str | None:
    run = chaos.run_in(Run.State.RUNNING, Run.State.PAUSED)
    if run is None:
        return NOT_NOW
    if chaos.chance.random() < 0.5:
        control.cancel(run)
    else:
        chaos.staff.call(f"runs/{run.pk}/cancel")
    return None


def resume_run(chaos: Chaos) -> str | None:
    run = chaos.run_in(Run.State.CANCELLED, Run.State.PAUSED)
    if run is None:
        return NOT_NOW
    if chaos.chance.random() < 0.5:
        control.resume(run)
    else:
        chaos.staff.call(f"runs/{run.pk}/resume")
    return None


def retry(chaos: Chaos) -> str | None:
    run = Run.objects.filter(chunks__failed__gt=0, kind=Run.Kind.REGENERATE).first()
    if run is None:
        return NOT_NOW
    starting.retry(run, origin=Run.Origin.ADMIN)
    return None


# Images


def delete(chaos: Chaos) -> str | None:
    ids = chaos.some_but_poisoned(chaos.chance.randint(1, 5))
    chaos.gallery.deleted |= set(ids)
    ImageAsset.objects.filter(pk__in=ids).delete()
    return None


def replace_in_place(chaos: Chaos) -> str | None:
    not_these = chaos.gallery.deleted | chaos.gallery.poisoned
    ids = [i for i in chaos.gallery.ids[:UPLOADED_FROM] if i not in not_these]
    some = chaos.chance.sample(ids, chaos.chance.choice([1, 20, 100]))
    paths = [chaos.gallery.replace(asset_id) for asset_id in some]
    command = chaos.site.start_command("import_images", *paths, **SETTINGS)
    chaos.site.imports.append((time.monotonic(), command))
    return None


def upload(chaos: Chaos) -> str | None:
    ids = [i for i in chaos.gallery.ids[UPLOADED_FROM:] if i not in chaos.gallery.deleted]
    asset_id = chaos.chance.choice(ids)
    chaos.gallery.uploaded.add(asset_id)
    chaos.staff.upload(asset_id, picture(chaos.gallery.new_colour(asset_id)))
    return None


def poison(chaos: Chaos) -> str | None:
    """The first one that has a thumbnail, for good."""
    if chaos.gallery.poisoned:
        return NOT_NOW
    ids = chaos.gallery.ids[:UPLOADED_FROM]
    with_thumbnail = ImageAsset.objects.filter(pk__in=ids).exclude(thumbnail_path="")
    # It has to keep its thumbnail: none that is being purged or replaced.
    busy = purged() | {i for i in ids if len(chaos.gallery.colours[i]) > 1}
    victim = with_thumbnail.exclude(pk__in=busy).first()
    if victim is None:
        return NOT_NOW
    chaos.gallery.poisoned.add(victim.pk)
    chaos.switchboard.poison(Poison.SEGFAULT, chaos.gallery.paths[victim.pk].name)
    neighbours = ImageAsset.objects.filter(pk__range=(victim.pk - 5, victim.pk + 5))
    start_run(neighbours, force=True)
    return None


# Deaths


def kill_worker(chaos: Chaos) -> str | None:
    chaos.chance.choice(chaos.site.workers.workers).kill_alone()
    return None


def kill_renderer(chaos: Chaos) -> str | None:
    victims = renderers(chaos)
    if not victims:
        return NOT_NOW
    with contextlib.suppress(psutil.NoSuchProcess):
        chaos.chance.choice(victims).kill()
    return None


def kill_command(chaos: Chaos) -> str | None:
    command = chaos.site.command()
    if command is None:
        return NOT_NOW
    command.kill_alone()
    return None


def interrupt_command(chaos: Chaos) -> str | None:
    """As by Ctrl-C: its run is paused."""
    command = chaos.site.command()
    if command is None:
        return NOT_NOW
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(command.pid).terminate()
    return None


def kill_web(chaos: Chaos) -> str | None:
    """All of it, or the one that answers: gunicorn starts another one."""
    web = chaos.site.web
    children = psutil.Process(web.pid).children()
    if children and chaos.chance.random() < 0.5:
        chaos.site.hurt_web(children[0].kill)
    else:
        chaos.site.hurt_web(web.kill)
    return None


def kill_database(chaos: Chaos) -> str | None:
    if chaos.site.is_database_away:
        return NOT_NOW
    chaos.site.kill_database_for(chaos.chance.uniform(0.2, 2))
    return None


# Standing still


def stop_worker(chaos: Chaos) -> str | None:
    worker = chaos.chance.choice(chaos.site.workers.workers)
    chaos.site.stop_for(chaos.chance.uniform(1, 6), *family(worker, chaos.chance))
    return None


def stop_worker_for_long(chaos: Chaos) -> str | None:
    worker = chaos.chance.choice(chaos.site.workers.workers)
    chaos.site.stop_for(LONG_STOP_SECONDS, *family(worker, chaos.chance))
    return None


def stop_renderer(chaos: Chaos) -> str | None:
    victims = renderers(chaos)
    if not victims:
        return NOT_NOW
    chaos.site.stop_for(chaos.chance.uniform(1, RENDER_SECONDS - 3), chaos.chance.choice(victims))
    return None


def stop_command(chaos: Chaos) -> str | None:
    command = chaos.site.command()
    if command is None:
        return NOT_NOW
    seconds = chaos.chance.choice([3, 18])
    chaos.site.stop_for(seconds, *family(command, chaos.chance))
    return None


def stop_web(chaos: Chaos) -> str | None:
    web = chaos.site.web
    processes = [psutil.Process(web.pid), *psutil.Process(web.pid).children()]
    chaos.site.stop_for(chaos.chance.uniform(1, 4), *processes)
    return None


def stop_database(chaos: Chaos) -> str | None:
    if chaos.site.is_database_away:
        return NOT_NOW
    chaos.site.hang_database_for(chaos.chance.uniform(1, 5))
    return None


def family(session: Session, chance: random.Random) -> list[psutil.Process]:
    """The process, or with its render processes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        alone = [psutil.Process(session.pid)]
        return alone if chance.random() < 0.5 else [*alone, *renderers_of(session)]
    return []


def renderers(chaos: Chaos) -> list[psutil.Process]:
    site = chaos.site
    command = site.command()
    sessions: list[Session] = [*site.workers.workers, site.web, *([command] if command else [])]
    return [process for session in sessions for process in renderers_of(session)]


RUNS_AT_ONCE = 8
EVENT_WEIGHTS: dict[Event, int] = {
    start_by_rows: 12,
    start_by_api: 8,
    start_command: 8,
    purge_by_rows: 5,
    purge_by_api: 3,
    cancel: 5,
    resume_run: 5,
    retry: 2,
    delete: 8,
    replace_in_place: 4,
    upload: 10,
    poison: 1,
    kill_worker: 2,
    kill_renderer: 8,
    kill_command: 3,
    interrupt_command: 2,
    kill_web: 2,
    kill_database: 1,
    stop_worker: 4,
    stop_worker_for_long: 1,
    stop_renderer: 4,
    stop_command: 2,
    stop_web: 2,
    stop_database: 1,
}
"""How often each happens, by chance, beside the once that each does."""


def plan_of(chance: random.Random) -> list[tuple[float, Event]]:
    """When what is to happen: each event once, and the others by their weights."""
    number = EVENTS - len(EVENT_WEIGHTS)
    more = chance.choices(list(EVENT_WEIGHTS), list(EVENT_WEIGHTS.values()), k=number)
    events = [*EVENT_WEIGHTS, *more]
    chance.shuffle(events)
    # Not in the last seconds: it shall be over before all is let go.
    events.remove(stop_worker_for_long)
    events.insert(EVENTS // 5, stop_worker_for_long)
    times = sorted(chance.uniform(1, CHAOS_SECONDS) for _ in events)
    return [(0.0, start_by_rows), (0.5, start_command), *zip(times, events, strict=True)]


# --- What has to be true then ---------------------------------------------------------------------


def purged() -> set[int]:
    chunks = Chunk.objects.filter(run__kind=Run.Kind.PURGE).values_list("asset_ids", flat=True)
    return {asset_id for ids in chunks for asset_id in ids}


def faults_of_runs(gallery: Gallery) -> Iterator[str]:
    """I1 and I5: each image is counted once, and only the poisoned one failed."""
    for run in Run.objects.prefetch_related("chunks"):
        chunks = list(run.chunks.all())
        for fault in (*_faults_of_counts(run, chunks), *_faults_of_course(run, gallery)):
            yield f"{run}: {fault}"
        for chunk in chunks:
            yield from (f"{chunk}: {fault}" for fault in _faults_of_chunk(chunk))


def _faults_of_counts(run: Run, chunks: list[Chunk]) -> Iterator[str]:
    ids = [asset_id for chunk in chunks for asset_id in chunk.asset_ids]
    if len(ids) != len(set(ids)) or len(ids) != run.total:
        yield f"{len(ids)} images, {len(set(ids))} different ones, total {run.total}"
    done = run.progress().done
    if done != sum(chunk.position for chunk in chunks):
        yield f"{done} are done, and not what the chunks' positions say"
    if run.state == Run.State.DONE and done != run.total:
        yield f"done: {done} of {run.total}"


def _faults_of_course(run: Run, gallery: Gallery) -> Iterator[str]:
    if not run.is_over:
        yield f"is {run.state}: {run.pause_reason}"
    for event in run.events.filter(kind=RunEvent.Kind.PAUSED):
        if not event.detail.startswith("Stopped by SIG"):
            yield f"paused itself: {event.detail}"
    for reason, failed in run.progress().failures.items():
        if reason != Reason.CRASHED or set(failed) - gallery.poisoned:
            yield f"{failed} failed as {reason}, and poisoned are {gallery.poisoned}"


def _faults_of_chunk(chunk: Chunk) -> Iterator[str]:
    if chunk.rendered + chunk.fresh + chunk.purged + chunk.failed != chunk.position:
        yield "its counts do not add up to its position"
    if sum(map(len, chunk.failures.values())) != chunk.failed:
        yield f"{chunk.failed} failed, and not {chunk.failures}"
    if chunk.lease_until is not None:
        yield f"leased until {chunk.lease_until}"
    if (chunk.position == len(chunk.asset_ids)) != (chunk.finished_at is not None):
        yield f"position {chunk.position}, finished at {chunk.finished_at}"


def faults_of_kept(gallery: Gallery, thumbnail_dir: Path) -> Iterator[str]:
    """I3: who had a thumbnail has one, but where it was taken away on purpose."""
    kept = gallery.with_thumbnail - purged() - gallery.uploaded
    for asset in ImageAsset.objects.filter(pk__in=kept):
        path = thumbnail_dir / asset.thumbnail_name
        if not asset.thumbnail_path:
            yield f"{asset.pk} had a thumbnail: {asset.thumbnail_history}"
        elif not path.exists():
            yield f"{asset.pk} had a thumbnail, and its file is gone: {asset.thumbnail_history}"


def faults_of_fresh(gallery: Gallery, thumbnail_dir: Path, originals_dir: Path) -> Iterator[str]:
    """I2: all but the poisoned one are fresh, and show what their originals show."""
    for asset in ImageAsset.objects.all():
        if asset.state != State.FRESH:
            if asset.pk not in gallery.poisoned:
                yield f"{asset.pk} is {asset.state}: {asset.thumbnail_error_detail}"
            continue
        for fault in _faults_of_file(asset, thumbnail_dir, originals_dir / str(asset.original)):
            yield f"{asset.pk} {fault}: {asset.thumbnail_history}"


def _faults_of_file(asset: ImageAsset, thumbnail_dir: Path, original: Path) -> Iterator[str]:
    path = thumbnail_dir / asset.thumbnail_path
    if not path.exists():
        yield "is fresh without a file"
        return
    content = path.read_bytes()
    if read_stamp(content) != asset.fingerprint:
        yield f"bears {read_stamp(content)} and not {asset.fingerprint}"
    version = originals.version_from(original.stat())
    if asset.source_version != version:
        yield f"is of {asset.source_version}, and the original is {version}"
    colours = colour_in(content), colour_in(original.read_bytes())
    if not is_near(*colours):
        yield f"has colour {colours[0]}, and its original {colours[1]}"


def faults_of_commands(site: Site) -> Iterator[str]:
    """They end as told, or by our hand."""
    for command in site.regenerations:
        status = command.wait()
        if status not in {0, 1, 2, 130, -9, -15} or "thumbnails/management" in command.log:
            yield f"regenerate_thumbnails ended with {status}:\n{command.log[-3000:]}"
    for began, command in site.imports:
        was_away = site.was_database_hurt(began) and "The database does not answer" in command.log
        if command.wait() != 0 and not was_away:
            yield f"import_images ended with {command.wait()}:\n{command.log[-3000:]}"


def raised(logs: Path) -> Iterator[str]:
    """What processes let through, by their logs: to look at, and no fault by itself."""
    for log in logs.glob("*.log"):
        text = log.read_text(errors="replace")
        for traceback in re.findall(
            r"^Traceback(?:.*\n)+?(?=\S)(?!Traceback).*", text, re.MULTILINE
        ):
            lines = traceback.splitlines()
            ours = [line.strip() for line in lines if "/thumbnails/" in line]
            yield f"{log.stem.partition('-')[0]}: {lines[-1][:200]} {ours[-1:]}"


def check(faults: Iterable[str]) -> None:
    """Fails with the first of them, if there are any."""
    found = list(faults)
    shown = "\n".join(found[:SHOWN])
    assert not found, f"{len(found)} faults:\n{shown}"


# --- The test -------------------------------------------------------------------------------------


@pytest.fixture
def chance(say: Say) -> random.Random:
    """The same series of events each time, or that of FAULTS_SEED."""
    seed = int(os.environ.get(SEED_VARIABLE) or SEED)
    say(f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)  # noqa: S311


@pytest.fixture
def site(
    durable_postgres: PostgresServer,
    supervise: Supervise,
    serve_site: ServeSite,
    command: StartCommand,
    switchboard: Switchboard,
) -> Iterator[Site]:
    def serve() -> WebServer:
        return serve_site(**SETTINGS)

    site = Site(
        postgres=durable_postgres,
        workers=supervise(2, **SETTINGS),
        serve=serve,
        start_command=command,
        web=serve(),
    )
    try:
        yield site
    finally:
        site.let_all_go_on()


@pytest.fixture
def gallery(originals_dir: Path, thumbnail_dir: Path, transactional_db: None) -> Gallery:
    """Three quarters of its pictures have a thumbnail."""
    gallery = Gallery(originals_dir / "folder")
    gallery.fill()
    gallery.hang_up(thumbnail_dir, (pk for pk in gallery.ids if pk % 4))
    gallery.note_thumbnails()
    return gallery


@contextmanager
def reading(site: Site, gallery: Gallery) -> Iterator[list[Reader]]:
    readers = [Reader(site, gallery, seed) for seed in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.end()


def resume_or_cancel(run: Run) -> None:
    """Cancelled is what a newer run goes on with, so that it cannot be resumed."""
    try:
        control.resume(run)
    except NotNow:
        if not run.is_over:
            control.cancel(run)


def calm_down(chaos: Chaos) -> None:
    """All goes on, and the runs come to their end."""
    site = chaos.site
    site.let_all_go_on()
    site.postgres.start()
    connection.close()
    site.replace_the_dead()
    for command in (*site.regenerations, *(command for _, command in site.imports)):
        command.wait()

    def is_over() -> bool:
        site.replace_the_dead()
        for run in Run.objects.filter(state=Run.State.PAUSED):
            chaos.happened[f"paused: {run.pause_reason[:60]}"] += 1
            resume_or_cancel(run)
        running = Run.objects.running().exists()
        return not running and not Chunk.objects.filter(lease_until__isnull=False).exists()

    cancelled = list(Run.objects.filter(state=Run.State.CANCELLED))
    for run in cancelled[::2]:
        resume_or_cancel(run)
    wait_for(is_over, "all runs to end", PATIENCE_SECONDS, interval_seconds=0.2)


def test_chaos__leaves_nothing_that_does_not_fit_together(
    chance: random.Random,
    site: Site,
    gallery: Gallery,
    staff: User,
    manage: Manage,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    originals_dir: Path,
    say: Say,
) -> None:
    switchboard.slow_down(0.008)
    chaos = Chaos(
        chance=chance,
        site=site,
        gallery=gallery,
        staff=Staff(site, staff),
        switchboard=switchboard,
    )
    plan = plan_of(chance)
    with reading(site, gallery) as readers:
        began = time.monotonic()
        chaos.play(plan)
        say(f"chaos took {time.monotonic() - began:.0f} s")
        switchboard.slow_down(0)
        gallery.note_thumbnails()
        calm_down(chaos)
        say(f"all was over after {time.monotonic() - began:.0f} s")
    say(f"happened: {dict(sorted(chaos.happened.items()))}")
    say(f"readers: {dict(sum((reader.answers for reader in readers), Counter()))}")
    say(f"staff: {dict(chaos.staff.answers)}")
    failures = Counter(
        reason
        for chunk in Chunk.objects.exclude(failures={})
        for reason, ids in chunk.failures.items()
        for _ in ids
    )
    say(f"failures: {dict(failures)}; renders: {switchboard.ended()}")
    for line, number in Counter(raised(switchboard.folder.parent)).items():
        say(f"{number} times {line}")
    check(
        [
            *(fault for reader in readers for fault in reader.wrong),
            *chaos.staff.wrong,
            *site.wrong,
            *faults_of_runs(gallery),
            *faults_of_kept(gallery, thumbnail_dir),
            *faults_of_commands(site),
        ]
    )

    changed = [pk for pk, colours in gallery.colours.items() if len(colours) > 1]
    paths = [gallery.paths[pk] for pk in changed if pk not in gallery.deleted | gallery.uploaded]
    imported = manage("import_images", *paths)
    last = manage("regenerate_thumbnails")
    audited = manage("audit_thumbnails", "--fix", "--deep", "--json")
    assert audited.stdout, audited.stderr
    found = {name for name, number in json.loads(audited.stdout)["found"].items() if number}
    say(f"the audit found {sorted(found)}")
    check(
        [
            *faults_of_fresh(gallery, thumbnail_dir, originals_dir),
            *([f"import: {imported.stderr}"] if imported.returncode else []),
            *(
                [f"last: {last.stdout} {last.stderr}"]
                if last.returncode > bool(gallery.poisoned)
                else []
            ),
            *(f"the audit found {name}" for name in found - {"leftover", "orphan"}),
        ]
    )
    again = manage("audit_thumbnails", "--deep", "--json")
    assert again.returncode == 0, again.stdout
    for session in (*site.workers.workers, site.web):
        session.kill()
    wait_for(lambda: not orphaned_renderers(switchboard), "the end of all render processes")

"""Processes that are killed with -9 at random moments of a run."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.faults import accounts
from tests.faults.conftest import (
    MakeAssets,
    Say,
    StartCommand,
    Supervise,
    Supervisor,
    name_of,
    wait_for_begun,
)
from tests.faults.switchboard import Switchboard
from tests.processes import Session
from tests.runs import start_here, start_run, work
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.runs import control

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS, KILLS = 1000, 20
KILLS_OF_A_COMMAND = 10
PROMISED_SECONDS = 30
"""After any crash the run goes on by itself within that time. It is said, and fails no test."""


@dataclass
class Deaths:
    """Which render process died when, alone or with its parent, to find out afterwards how long
    its chunk stood still."""

    switchboard: Switchboard
    killed: list[tuple[float, int]] = field(default_factory=list)

    def note(self, *pids: int) -> None:
        self.killed += [(time.time(), pid) for pid in pids]

    def longest_standstill(self, run: Run) -> float:
        """Seconds from a death until another process went on with the same chunk."""
        ids = {name_of(asset): asset.pk for asset in ImageAsset.objects.all()}
        chunk_of = {
            asset_id: chunk.pk for chunk in run.chunks.all() for asset_id in chunk.asset_ids
        }
        events = self.switchboard.events()
        standstills = [0.0]
        for at, pid in self.killed:
            mine = [chunk_of.get(ids[event.picture]) for event in events if event.pid == pid]
            if not mine:
                continue
            later = (event for event in events if event.at > at and event.pid != pid)
            goes_on = (e.at for e in later if chunk_of.get(ids[e.picture]) == mine[-1])
            standstills.append(next(goes_on, at) - at)
        return max(standstills)


def moments(chance: random.Random, number: int) -> list[int]:
    """Numbers of pictures that are begun when a process dies, all over the run."""
    return sorted(chance.sample(range(20, int(ASSETS * 0.9)), number))


def render_processes(parent: Session) -> list[psutil.Process]:
    """Those that a worker or a command has now. Each is in a session of its own."""
    try:
        children: list[psutil.Process] = psutil.Process(parent.pid).children()
    except psutil.NoSuchProcess:
        return []
    return children


def start(assets: list[ImageAsset]) -> Run:
    return start_run(ImageAsset.objects.filter(pk__in=[asset.pk for asset in assets]))


# --- Workers --------------------------------------------------------------------------------------


def kill_at_random(chance: random.Random, workers: Supervisor, deaths: Deaths) -> None:
    """A render process, a worker without or with its render process, or all of them."""
    victims = ["render process", "worker", "worker and render process", "all"]
    victim = chance.choices(victims, [10, 4, 4, 2])[0]
    chosen = workers.workers if victim == "all" else [chance.choice(workers.workers)]
    children = [child for worker in chosen for child in render_processes(worker)]
    deaths.note(*(child.pid for child in children))
    if victim != "render process":
        for worker in chosen:
            worker.kill()
    if victim != "worker":
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def test_workers__are_killed_twenty_times_and_a_command_once(
    make_assets: MakeAssets,
    supervise: Supervise,
    command: StartCommand,
    switchboard: Switchboard,
    thumbnail_dir: Path,
    chance: random.Random,
    say: Say,
) -> None:
    """The workers go on with both runs."""
    assets = make_assets(ASSETS + 100)
    switchboard.slow_down(0.02)
    workers = supervise(3)

    ids = f"{assets[ASSETS].pk}-{assets[-1].pk}"
    regenerate = command("regenerate_thumbnails", "--force", "--ids", ids)
    wait_for_begun(switchboard, chance.randint(1, 80))
    of_command = Run.objects.get()
    its_own = {process.pid for process in render_processes(regenerate)}
    regenerate.kill_alone()
    died_at, begun = time.time(), switchboard.begun()

    run = start(assets[:ASSETS])
    deaths = Deaths(switchboard)
    for moment in moments(chance, KILLS):
        wait_for_begun(switchboard, begun + moment)
        time.sleep(chance.random() * 0.2)
        kill_at_random(chance, workers, deaths)
        workers.replace_the_dead()
    accounts.wait_until_done(run)
    accounts.wait_until_done(of_command)
    say(
        f"a chunk stood still for {deaths.longest_standstill(run):.1f} s at most, and the "
        f"command's run for {taken_over_at(of_command, switchboard, its_own) - died_at:.1f} s "
        f"(promised: {PROMISED_SECONDS})"
    )
    for ended in (run, of_command):
        accounts.check(ended, thumbnail_dir, writers_were_killed=True)


def taken_over_at(run: Run, switchboard: Switchboard, its_own: set[int]) -> float:
    ids = {asset_id for chunk in run.chunks.all() for asset_id in chunk.asset_ids}
    pictures = set(map(name_of, ImageAsset.objects.in_bulk(ids).values()))
    events = switchboard.events()
    return next(e.at for e in events if e.picture in pictures and e.pid not in its_own)


def test_web_server__dies_between_the_runs_commit_and_its_jobs(
    make_assets: MakeAssets,
    supervise: Supervise,
    thumbnail_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Say,
) -> None:
    assets = make_assets(20)
    supervise(1)
    monkeypatch.setattr(control, "dispatch", lambda _: None)
    run = start(assets)
    began = time.monotonic()
    accounts.wait_until_done(run)
    say(f"found and done after {time.monotonic() - began:.1f} s (promised: {PROMISED_SECONDS})")
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == 20


# --- The command ----------------------------------------------------------------------------------


def kill_one_of(regenerate: Session, chance: random.Random, deaths: Deaths) -> None:
    children = wait_for(lambda: render_processes(regenerate), "the command's render processes")
    victim: psutil.Process = chance.choice(children)
    deaths.note(victim.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()


def test_command__is_killed_like_its_processes_and_the_same_command_goes_on(
    make_assets: MakeAssets,
    command: StartCommand,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    chance: random.Random,
    say: Say,
) -> None:
    make_assets(ASSETS)
    switchboard.slow_down(0.01)
    deaths = Deaths(switchboard)
    regenerate = command("regenerate_thumbnails", "--force")
    run = accounts.run_of_command()
    its_own_death = chance.randrange(KILLS_OF_A_COMMAND)
    for number, moment in enumerate(moments(chance, KILLS_OF_A_COMMAND)):
        wait_for_begun(switchboard, moment)
        time.sleep(chance.random() * 0.2)
        if number == its_own_death:
            died_at = time.monotonic()
            regenerate.kill()
            before = switchboard.begun()
            regenerate = command("regenerate_thumbnails", "--force")
            wait_for_begun(switchboard, before + 3)
            say(f"the same command went on after {time.monotonic() - died_at:.1f} s")
        else:
            kill_one_of(regenerate, chance, deaths)
    status = regenerate.wait()
    say(f"a chunk stood still for {deaths.longest_standstill(run):.1f} s at most")
    # A process that was killed from outside convicts no picture.
    assert status == 0, regenerate.log
    assert Run.objects.get() == run
    accounts.check(run, thumbnail_dir, writers_were_killed=True)


def test_command__finishes_a_run_that_lacks_nothing_but_being_called_done(
    make_assets: MakeAssets, command: StartCommand, thumbnail_dir: Path
) -> None:
    """The process that counted the last picture died before that."""
    make_assets(5)
    run = start_here(force=True)
    work(run)
    Run.objects.update(state=Run.State.RUNNING, finished_at=None, lease_until=None)
    regenerate = command("regenerate_thumbnails", "--force")
    wait_for(lambda: not regenerate.running, "the command's end")
    assert regenerate.wait() == 0, regenerate.log
    assert Run.objects.count() == 1
    accounts.check(run, thumbnail_dir)

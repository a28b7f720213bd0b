"""Processes that are killed with -9 at random moments of a run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
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
from tests.servers import QueueServer
from tests.waiting import wait_for
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep import runs

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS, KILLS = 2000, 20
KILLS_OF_A_CREW = 10
PROMISED_SECONDS = 30
"""After any crash the run goes on by itself within that time. It is said, and fails no test."""


@dataclass
class Deaths:
    """Who was killed when, to find out afterwards how long what they did stood still."""

    switchboard: Switchboard
    killed: list[tuple[float, int]] = field(default_factory=list)

    def note(self, *pids: int) -> None:
        self.killed += [(time.time(), pid) for pid in pids]

    def longest_standstill(self, run: Run) -> float:
        """Seconds from a death until somebody else went on with the same chunk."""
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
    """Numbers of pictures that are begun when somebody dies, all over the run."""
    return sorted(chance.sample(range(20, int(ASSETS * 0.9)), number))


def crashed(run: Run) -> dict[Reason, list[int]]:
    """Whom two deaths in a row met at the same picture: to the run it is the culprit."""
    return {Reason.CRASHED: run.progress().failures.get(Reason.CRASHED, [])}


def start(assets: list[ImageAsset]) -> Run:
    return runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.filter(pk__in=[asset.pk for asset in assets]),
        origin=Run.Origin.ADMIN,
        scope_text="some",
    )


def check_with_retry(ended: list[Run], thumbnail_dir: Path, workers: Supervisor, say: Say) -> None:
    """The equation; a picture over which somebody was killed twice is a suspect, and retried."""
    for run in ended:
        accounts.check(run, thumbnail_dir, failed=crashed(run), writers_were_killed=True)
    for run in ended:
        if run.progress().failed:
            say(f"retried {crashed(run)} of {run}")
            again = runs.retry(run, origin=Run.Origin.ADMIN, reason=Reason.CRASHED)
            accounts.wait_until_done(again)
            accounts.check(again, thumbnail_dir)


# --- Workers --------------------------------------------------------------------------------------


def kill_somebody(chance: random.Random, workers: Supervisor, deaths: Deaths) -> None:
    """A work horse, a worker without or with its horse, or all of them."""
    victims = chance.choices(["horse", "worker", "worker and horse", "all"], [10, 4, 4, 2])[0]
    worker = chance.choice(workers.workers)
    horses = [horse.pid for horse in worker.horses()]
    match victims:
        case "horse":
            deaths.note(*horses)
            for pid in horses:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        case "worker":
            deaths.note(*horses)
            worker.kill_alone()
        case "worker and horse":
            deaths.note(*horses)
            worker.kill()
        case _:
            deaths.note(*(horse.pid for each in workers.workers for horse in each.horses()))
            for each in workers.workers:
                each.kill()


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
    switchboard.slow_down(0.01)
    workers = supervise(3)

    ids = f"{assets[ASSETS].pk}-{assets[-1].pk}"
    regenerate = command("regenerate_thumbnails", "--force", "--ids", ids)
    wait_for_begun(switchboard, chance.randint(1, 80))
    of_command = Run.objects.get()
    its_crew = {process.pid for process in regenerate.forked()}
    regenerate.kill_alone()
    died_at, begun = time.time(), switchboard.begun()

    run = start(assets[:ASSETS])
    deaths = Deaths(switchboard)
    for moment in moments(chance, KILLS):
        wait_for_begun(switchboard, begun + moment)
        time.sleep(chance.random() * 0.2)
        kill_somebody(chance, workers, deaths)
        workers.replace_the_dead()
    accounts.wait_until_done(run)
    accounts.wait_until_done(of_command)
    say(
        f"a chunk stood still for {deaths.longest_standstill(run):.1f} s at most, and the "
        f"command's run for {taken_over_at(of_command, switchboard, its_crew) - died_at:.1f} s "
        f"(promised: {PROMISED_SECONDS})"
    )
    check_with_retry([run, of_command], thumbnail_dir, workers, say)


def taken_over_at(run: Run, switchboard: Switchboard, its_crew: set[int]) -> float:
    ids = {asset_id for chunk in run.chunks.all() for asset_id in chunk.asset_ids}
    pictures = set(map(name_of, ImageAsset.objects.in_bulk(ids).values()))
    events = switchboard.events()
    return next(e.at for e in events if e.picture in pictures and e.pid not in its_crew)


def test_web_server__dies_between_the_runs_commit_and_its_jobs(
    make_assets: MakeAssets,
    supervise: Supervise,
    thumbnail_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Say,
) -> None:
    assets = make_assets(20)
    supervise(1)
    monkeypatch.setattr(runs, "dispatch", lambda _: None)
    run = start(assets)
    began = time.monotonic()
    accounts.wait_until_done(run)
    say(f"found and done after {time.monotonic() - began:.1f} s (promised: {PROMISED_SECONDS})")
    accounts.check(run, thumbnail_dir)
    assert run.progress().rendered == 20


# --- The command ----------------------------------------------------------------------------------


def kill_one_of(crew: Session, chance: random.Random, deaths: Deaths) -> None:
    victim: psutil.Process = chance.choice(wait_for(crew.forked, "the command's crew"))
    deaths.note(victim.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()


def test_command__is_killed_with_its_crew_and_the_same_command_goes_on(
    make_assets: MakeAssets,
    command: StartCommand,
    switchboard: Switchboard,
    queue_server: QueueServer,
    thumbnail_dir: Path,
    chance: random.Random,
    say: Say,
) -> None:
    make_assets(ASSETS)
    switchboard.slow_down(0.005)
    deaths = Deaths(switchboard)
    regenerate = command("regenerate_thumbnails", "--force")
    run = accounts.run_of_command()
    its_own_death = chance.randrange(KILLS_OF_A_CREW)
    for number, moment in enumerate(moments(chance, KILLS_OF_A_CREW)):
        wait_for_begun(switchboard, moment)
        time.sleep(chance.random() * 0.2)
        if number == its_own_death:
            died_at = time.monotonic()
            chance.choice([regenerate.kill, regenerate.kill_alone])()
            before = switchboard.begun()
            regenerate = command("regenerate_thumbnails", "--force")
            wait_for_begun(switchboard, before + 3)
            say(f"the same command went on after {time.monotonic() - died_at:.1f} s")
        else:
            kill_one_of(regenerate, chance, deaths)
    status = regenerate.wait()
    say(f"a chunk stood still for {deaths.longest_standstill(run):.1f} s at most")
    suspects = crashed(run)
    assert status == (1 if suspects[Reason.CRASHED] else 0), regenerate.log
    assert Run.objects.get() == run
    accounts.check(run, thumbnail_dir, failed=suspects, writers_were_killed=True)


def test_command__finishes_a_run_that_lacks_nothing_but_being_called_done(
    make_assets: MakeAssets, command: StartCommand, thumbnail_dir: Path
) -> None:
    """Whoever counted the last picture died before that."""
    make_assets(5)
    run = runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.COMMAND,
        scope_text="all",
        force=True,
        attended=True,
    )
    for chunk in run.chunks.all():
        runs.work_chunk(chunk.pk)
    Run.objects.update(state=Run.State.RUNNING, finished_at=None, attended_until=None)
    regenerate = command("regenerate_thumbnails", "--force")
    wait_for(lambda: not regenerate.running, "the command's end")
    assert regenerate.wait() == 0, regenerate.log
    assert Run.objects.count() == 1
    accounts.check(run, thumbnail_dir)

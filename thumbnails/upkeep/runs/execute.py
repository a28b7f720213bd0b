"""Working on runs: chunk after chunk, in a worker of the queue or in a command."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Any
from uuid import UUID, uuid4

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now

from thumbnails.exceptions import Interrupted, NotFinished, Reason
from thumbnails.models import Chunk, ImageAsset, Outcome, Run
from thumbnails.models.recipes import announce, own_recipe, recipe_in_force
from thumbnails.models.results import Result, save_results
from thumbnails.models.retry import retry_while_database_is_down
from thumbnails.models.runs import LEASE, Progress, progress_of
from thumbnails.rendering.pool import NotDecoded, RenderPool
from thumbnails.upkeep.images import freshness, pools
from thumbnails.upkeep.runs import queue
from thumbnails.upkeep.runs.control import RETRY_AFTER, pause_if_running
from thumbnails.upkeep.runs.rate_limit import RateLimit
from thumbnails.upkeep.runs.stopping import Stop

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""How often a chunk's results are saved: what a crash can make to be looked at again."""
LOOK_SECONDS = 0.5
"""How often at most it is looked whether the run was paused or cancelled: the question costs as
much as a small picture."""
NAP_SECONDS = 0.05
RENEW_SECONDS = LEASE.total_seconds() / 4
OTHERS_JOB_SECONDS = 1.0
"""How long a worker keeps a job that is for a worker of another recipe."""
STORAGE_ERRORS_AT_MOST = 5
"""In a row: then the place is at fault and not the pictures, and the run pauses itself."""
MISSING_AT_MOST = 20
"""Originals in a row: then it is rather a disk that is not mounted."""

AT_MOST_IN_A_ROW = {
    "storage_errors": STORAGE_ERRORS_AT_MOST,
    "missing_in_a_row": MISSING_AT_MOST,
}
IN_A_ROW = {"storage_errors": Reason.STORAGE_ERROR, "missing_in_a_row": Reason.SOURCE_MISSING}
"""The columns of a run that count them."""

ShouldStop = Callable[[], bool]

stopping = threading.Event()
"""Set in a worker that is asked to end: it stops after its picture."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """The place fails: so many in a row, of which the last `undone` are not saved."""

    column: str
    row: int
    undone: int
    detail: str

    @property
    def reason(self) -> str:
        if self.column == "storage_errors":
            return f"{self.row} storage errors in a row. {self.detail}"
        return (
            f"{self.row} originals in a row are missing: is a disk not mounted? It is tried again "
            f"every minute; resume it to go on regardless. {self.detail}"
        )


class _Void(Exception):
    """Results of these images are void: something changed since the work on them began."""

    def __init__(self, asset_ids: list[int]) -> None:
        super().__init__(str(asset_ids))
        self.asset_ids = set(asset_ids)


def work_chunk(
    chunk_id: int,
    pool_for: Callable[[Run], RenderPool],
    should_stop: ShouldStop = stopping.is_set,
) -> bool:
    """Do what is left of a chunk. True: it was claimed and worked on here.

    Claims it first, so a chunk that is finished, taken, or of a run that is not running or is of
    another recipe is left alone. Stops between two images when told to; what was done by then
    stays done and counted. `pool_for` returns the pool that renders for the run.
    """
    token = uuid4()
    own = own_recipe().digest
    chunk = retry_while_database_is_down(partial(_claim, chunk_id, token, own))
    if chunk is None:
        return False
    with _kept(chunk) as lost:
        _Work(chunk, pool_for(chunk.run), lambda: lost.is_set() or should_stop()).do()
    retry_while_database_is_down(partial(Run.objects.settle, chunk.run_id))
    return True


def work_job(chunk_id: int) -> None:
    """What a worker of the queue does with a job: as `work_chunk`, by the process's own pools.

    The job of a run of another recipe goes back into the queue, for a worker that has it.
    """
    if work_chunk(chunk_id, lambda run: pools.worker_pool(large=run.is_large)):
        return
    others = (
        Run.objects.running().filter(kind=Run.Kind.REGENERATE).exclude(recipe=own_recipe().digest)
    )
    chunk = Chunk.objects.open().filter(pk=chunk_id, run__in=others).select_related("run").first()
    if chunk is not None:
        # Not at once again: this worker would meet nothing but such jobs.
        stopping.wait(OTHERS_JOB_SECONDS)
        queue.enqueue([chunk_id], bulk=chunk.run.is_large)


def _claim(chunk_id: int, token: UUID, own: str) -> Chunk | None:
    chunk = Chunk.objects.claim(chunk_id, token, recipe=own)
    if chunk is None or chunk.run.kind == Run.Kind.PURGE:
        return chunk
    announce()
    if recipe_in_force().digest != own:
        chunk.release()
        return None
    return chunk


@contextmanager
def _kept(chunk: Chunk) -> Iterator[threading.Event]:
    """Keeps the lease, however long one picture takes, and opens the chunk at the end.

    Yields what tells that the lease is lost.
    """
    lost, done = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                if not chunk.renew():
                    lost.set()
            except DatabaseError:
                # It is away for a while: the work on the chunk will notice as well.
                logger.warning("The database did not answer while at %s", chunk)
            finally:
                connection.close()

    heart = threading.Thread(target=renew, daemon=True)
    heart.start()
    try:
        yield lost
    finally:
        done.set()
        heart.join()
        if chunk.position < len(chunk.asset_ids):
            retry_while_database_is_down(chunk.release)


class _Work:
    """On one claimed chunk."""

    def __init__(self, chunk: Chunk, pool: RenderPool, should_stop: ShouldStop) -> None:
        self._chunk = chunk
        self._run = chunk.run
        self._pool = pool
        self._told_to_stop = should_stop
        self._look_at = time.monotonic() + LOOK_SECONDS  # it was running when it was claimed
        self._assets: dict[int, ImageAsset] = {}
        self._looked_at = 0.0

    def do(self) -> None:
        ids = self._chunk.asset_ids[self._chunk.position :]
        limit = RateLimit(self._run, len(ids), self._should_stop)
        results: list[Result] = []
        flush_at = 0.0
        for number, asset_id in enumerate(ids):
            if self._should_stop():
                break
            if time.monotonic() >= flush_at:
                if not self._flush(results):
                    return
                results = []
                self._load(ids[number:])
                flush_at = time.monotonic() + FLUSH_SECONDS
            limit.wait()
            try:
                results.append(self._do_one(asset_id))
            except NotDecoded:
                break
            if (trouble := self._place_fails(results)) is not None:
                self._flush(results[: -trouble.undone])
                retry_while_database_is_down(partial(self._pause, trouble))
                return
        self._flush(results)

    def _load(self, ids: Sequence[int]) -> None:
        """The rows of the next images, as they are now."""
        self._looked_at = time.monotonic()
        self._assets = retry_while_database_is_down(partial(ImageAsset.objects.in_bulk, ids))

    def _should_stop(self) -> bool:
        if self._told_to_stop():
            return True
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_SECONDS
        running = Run.objects.running().filter(pk=self._run.pk)
        return not retry_while_database_is_down(running.exists)

    def _do_one(self, asset_id: int) -> Result:
        asset = self._assets.get(asset_id)
        if asset is None:  # deleted since the scope was frozen
            freshness.delete_orphan(asset_id)
            return Result(asset_id=asset_id, outcome=self._nothing_to_do)
        if self._run.kind == Run.Kind.PURGE:
            return freshness.purge(asset, run_id=self._run.pk, looked_at=self._looked_at)
        return freshness.refresh(
            asset,
            self._pool,
            rendered_since=self._rendered_since,
            try_crashed=self._run.force or "retry_of" in self._run.scope,
            run_id=self._run.pk,
            looked_at=self._looked_at,
            should_stop=self._should_stop,
        )

    @property
    def _nothing_to_do(self) -> Outcome:
        return Outcome.PURGED if self._run.kind == Run.Kind.PURGE else Outcome.FRESH

    @property
    def _rendered_since(self) -> datetime | None:
        return self._run.created_at if self._run.force else None

    # --- saving -------------------------------------------------------------------------------

    def _flush(self, results: list[Result]) -> bool:
        """Save and count. False where the lease is lost: then nothing is saved."""
        while results:
            try:
                if not retry_while_database_is_down(partial(self._save, results)):
                    return False
            except _Void as void:
                results = self._with_void_ones_done_again(results, void.asset_ids)
            else:
                self._chunk.position += len(results)
                for column, row in self._rows(results).items():
                    setattr(self._run, column, row)
                break
        return True

    def _save(self, results: list[Result]) -> bool:
        """Results and counts in one transaction. May be tried again after a lost connection."""
        with transaction.atomic():
            locked = self._chunk.lock()
            if locked is None:
                # It may have been finished by the try whose answer was lost.
                return self._is_counted(results)
            if locked.position != self._chunk.position:
                return locked.position == self._chunk.position + len(results)
            void = save_results(results)
            if void:
                raise _Void(void)
            locked.record(results)
            rows = self._rows(results)
            if any(getattr(self._run, column) != row for column, row in rows.items()):
                # Kept over chunks: small ones end before they get far.
                Run.objects.filter(pk=self._run.pk).update(**rows)
        return True

    def _is_counted(self, results: list[Result]) -> bool:
        return Chunk.objects.filter(
            pk=self._chunk.pk,
            lease_token=self._chunk.lease_token,
            position=self._chunk.position + len(results),
            finished_at__isnull=False,
        ).exists()

    def _with_void_ones_done_again(self, results: list[Result], void: set[int]) -> list[Result]:
        """Up to where the work is told to stop: what comes after is left to do."""
        done = []
        for result in results:
            try:
                done.append(self._done_again(result) if result.asset_id in void else result)
            except NotDecoded:
                break
        return done

    def _done_again(self, before: Result) -> Result:
        """With the asset as it is now, and saved at once: only to be counted."""
        if self._run.kind == Run.Kind.PURGE:
            again = freshness.purge_now(before.asset_id, run_id=self._run.pk)
        else:
            again = freshness.refresh_now(
                before.asset_id,
                self._pool,
                rendered_since=self._rendered_since,
                run_id=self._run.pk,
            )
        if again is None:
            return Result(asset_id=before.asset_id, outcome=self._nothing_to_do)
        if again.outcome == Outcome.FRESH and before.outcome == Outcome.RENDERED:
            return Result(asset_id=before.asset_id, outcome=Outcome.RENDERED)
        return Result(asset_id=before.asset_id, outcome=again.outcome, reason=again.reason)

    # --- pausing by itself --------------------------------------------------------------------

    def _place_fails(self, results: list[Result]) -> "_Trouble | None":
        """Whether the storage fails, and not a picture: too many in a row."""
        for column, at_most in AT_MOST_IN_A_ROW.items():
            if column == "missing_in_a_row" and self._run.ignores_missing:
                continue
            undone = _in_a_row(results, IN_A_ROW[column])
            row = self._rows(results)[column]
            if undone and row >= at_most:
                failure = results[-1].failure
                detail = failure.thumbnail_error_detail if failure else ""
                return _Trouble(column, row, undone, detail or "The cache cannot be written.")
        return None

    def _pause(self, trouble: "_Trouble") -> None:
        """Pause the run, with the images that failed for the place left to do."""
        with transaction.atomic():
            # The next one in a row, after it went on, pauses it again at once.
            also: dict[str, Any] = {trouble.column: AT_MOST_IN_A_ROW[trouble.column]}
            moved = Run.objects.move(
                self._run.pk,
                Run.State.PAUSED,
                pause_reason=trouble.reason[:300],
                resume_at=Now() + RETRY_AFTER,
                **also,
            )
            if moved:
                chunks = Chunk.objects.filter(run=self._run.pk)
                chunks.undo_failures(IN_A_ROW[trouble.column], own=self._chunk.lease_token)
        if moved:
            logger.error("%s paused itself: %s", self._run, trouble.reason)

    def _rows(self, results: list[Result]) -> dict[str, int]:
        """How many failed in a row because of the place, with those before these results."""
        rows = {}
        for column, reason in IN_A_ROW.items():
            before = getattr(self._run, column)
            row = _in_a_row(results, reason)
            rows[column] = row + before if row == len(results) else row
        return rows


def _in_a_row(results: list[Result], reason: Reason) -> int:
    return sum(1 for _ in takewhile(lambda result: result.reason == reason, reversed(results)))


# --- a command --------------------------------------------------------------------------------

POLL_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""How long pictures may take to be finished once the command is asked to end."""


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(
    run: Run, *, processes: int, stop: Stop, on_progress: Callable[[Progress], None]
) -> Progress:
    """Work on the run in this process until it is over, and tell the progress now and then.

    This process keeps the books, and `processes` others render. Threads do chunk after chunk, as
    workers of the queue do: one more than there are render processes, which so need not wait for
    a disk. Where `stop` is asked the run is paused, after the pictures in work, and Interrupted
    raised. NotFinished where the work fails or the run's recipe is not in force any more.
    """
    with pools.new_pool(processes, nice=pools.NICENESS if run.is_large else 0) as pool:
        lanes = _Lanes(run.pk, pool, number=processes + 1)
        try:
            while retry_while_database_is_down(partial(Run.objects.renew_lease, run.pk)):
                lanes.wait(stop)
                if stop.is_asked() or lanes.failure:
                    break
                if run.kind == Run.Kind.REGENERATE and recipe_in_force() != own_recipe():
                    raise NotFinished("Processes with another recipe were started since.")
                on_progress(retry_while_database_is_down(partial(_counts, run)))
                if lanes.are_idle():
                    retry_while_database_is_down(partial(Run.objects.settle, run.pk))
            if lanes.failure:
                raise NotFinished(f"The work on it failed: {lanes.failure!r}")
            stop.raise_if_asked()
        except (NotFinished, Interrupted) as error:
            retry_while_database_is_down(partial(pause_if_running, run, str(error)))
            raise
        finally:
            try:
                lanes.end(stop)
            finally:
                with suppress(DatabaseError):
                    Run.objects.filter(pk=run.pk).update(lease_until=None)
    retry_while_database_is_down(run.refresh_from_db)
    progress = retry_while_database_is_down(run.progress)
    on_progress(progress)
    return progress


def _counts(run: Run) -> Progress:
    """Its progress without the failed images' ids, which may be many."""
    return progress_of([run], with_ids=False)[run.pk]


class _Lanes:
    """Threads that do the chunks of a run."""

    def __init__(self, run_id: int, pool: RenderPool, *, number: int) -> None:
        self._run_id = run_id
        self._pool = pool
        self._ended = threading.Event()
        self._idle: set[int] = set()
        self.failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, args=[lane], daemon=True) for lane in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def are_idle(self) -> bool:
        return len(self._idle) == len(self._threads)

    def wait(self, stop: Stop) -> None:
        """Return after POLL_SECONDS, or as soon as it is asked to stop or the work runs out."""
        give_up_at = time.monotonic() + POLL_SECONDS
        were_at_work = not self.are_idle()
        while time.monotonic() < give_up_at and not self.failure:
            if stop.wait(NAP_SECONDS):
                return
            if were_at_work and self.are_idle():
                return

    def end(self, stop: Stop) -> None:
        """Let them finish their pictures, but not for long, and no longer if asked again."""
        self._ended.set()
        give_up_at = time.monotonic() + GRACE_SECONDS
        asked = stop.times
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > give_up_at or stop.times > asked:
                self._pool.close()
                break
            time.sleep(NAP_SECONDS)
        for thread in self._threads:
            thread.join(GRACE_SECONDS)

    def _work(self, lane: int) -> None:
        while not self._ended.is_set():
            try:
                self._work_on_next(lane)
            except (OperationalError, InterfaceError) as error:
                # The chunk's lease ends, and a lane that meets it goes on.
                logger.warning("The database does not answer at run %d: %s", self._run_id, error)
            except Exception as error:
                logger.exception("The work on run %d failed", self._run_id)
                self.failure = error
                break
            finally:
                connection.close_if_unusable_or_obsolete()
        connection.close()

    def _work_on_next(self, lane: int) -> None:
        open_chunks = retry_while_database_is_down(self._open_chunks)
        if not open_chunks:
            self._idle.add(lane)
            self._ended.wait(POLL_SECONDS)
            return
        self._idle.discard(lane)
        # Each lane another one, so that they seldom want the same.
        chunk_id = open_chunks[lane % len(open_chunks)]
        if not work_chunk(chunk_id, lambda _: self._pool, self._ended.is_set):
            self._ended.wait(NAP_SECONDS)

    def _open_chunks(self) -> list[int]:
        """The first ones, as many as there are lanes."""
        running = Run.objects.running().filter(pk=self._run_id).values("pk")
        chunks = Chunk.objects.open().filter(run__in=running).order_by("number")
        return list(chunks.values_list("pk", flat=True)[: len(self._threads)])

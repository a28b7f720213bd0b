"""Working on the chunks of runs, in a worker of the queue or in a command."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from uuid import UUID, uuid4

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection, transaction

from thumbnails.exceptions import Interrupted, NotFinished, Reason
from thumbnails.models import Chunk, ImageAsset, Outcome, Run, RunEvent, RunRoot
from thumbnails.models.changes import tell_on_commit
from thumbnails.models.recipes import announce, own_recipe, recipe_in_force
from thumbnails.models.results import Result, changes_of, save_results
from thumbnails.models.retry import retry_while_database_is_down
from thumbnails.models.runs import LEASE, REASON_LENGTH, Progress
from thumbnails.rendering.pool import NotDecoded, RenderPool
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import freshness, pools
from thumbnails.upkeep.images.logs import log_result
from thumbnails.upkeep.runs.control import pause
from thumbnails.upkeep.runs.rate_limit import RateLimit
from thumbnails.upkeep.runs.stopping import Stop

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""How often a chunk's results are saved: a crash repeats at most the work of that time."""
LOOK_SECONDS = 0.5
"""Minimum interval between checks whether the run was paused or cancelled: the query costs as
much as a small image."""
POLL_SECONDS = 0.05
RENEW_SECONDS = LEASE.total_seconds() / 4
OTHERS_JOB_SECONDS = 1.0
"""How long a worker holds a job for workers with another recipe before it requeues it."""
STORAGE_ERRORS_AT_MOST = 5
"""Consecutive ones: then the storage is at fault, not the images, and the run leaves the rest of
their root undone. When nothing else is left, it pauses itself."""
MISSING_AT_MOST = 20
"""Consecutive originals: then a disk is probably not mounted."""

IN_A_ROW = {
    "storage_errors": (
        Reason.STORAGE_ERROR,
        STORAGE_ERRORS_AT_MOST,
        "{} storage errors in a row.",
    ),
    "missing_in_a_row": (
        Reason.SOURCE_MISSING,
        MISSING_AT_MOST,
        (
            "{} originals in a row are missing: is a disk not mounted? It is tried again every "
            "minute; resume it to go on regardless."
        ),
    ),
}
"""By column of a RunRoot: the reason that it counts, how often it may come, and why the root is
left then."""

ShouldStop = Callable[[], bool]

stopping = threading.Event()
"""Set in a worker that is asked to shut down: it stops after the current image."""


@dataclass(frozen=True, slots=True)
class _FailureStreak:
    """Consecutive failures of a storage, of which the last `unsaved` are not saved."""

    root: str
    column: str
    unsaved: int
    reason: str
    """Why the root is left."""


class _Void(Exception):
    """The results of these assets are void: a row has changed since the work on it began."""

    def __init__(self, asset_ids: list[int]) -> None:
        super().__init__(str(asset_ids))
        self.asset_ids = set(asset_ids)


def work_chunk(
    chunk_id: int,
    pool_for: Callable[[Run], RenderPool],
    should_stop: ShouldStop = stopping.is_set,
    *,
    log_level: int = logging.DEBUG,
) -> bool:
    """Claim a chunk and do the rest of it. Returns False if it could not be claimed.

    That is if it is finished, taken, or its run is not running or has another recipe. Stops
    between two images when `should_stop` returns True; what is done by then stays counted.
    `pool_for` returns the pool that renders for the run. `log_level` is that of the lines about
    failures and about what became of the chunk.
    """
    token = uuid4()
    own = own_recipe().digest
    chunk = retry_while_database_is_down(partial(_claim, chunk_id, token, own))
    if chunk is None:
        return False
    with _leased(chunk) as lost:
        pool = pool_for(chunk.run)
        _Work(chunk, pool, lambda: lost.is_set() or should_stop(), log_level).do()
    retry_while_database_is_down(partial(Run.objects.settle, chunk.run_id))
    return True


def work_job(chunk_id: int) -> None:
    """As `work_chunk`, for a worker's job and by its shared pools.

    Requeues the chunk of a run with another recipe, for a worker that has it.
    """
    if work_chunk(
        chunk_id,
        lambda run: pools.worker_pool(large=run.is_large),
        log_level=logging.INFO,
    ):
        return
    others = (
        Run.objects.running().filter(kind=Run.Kind.REGENERATE).exclude(recipe=own_recipe().digest)
    )
    chunk = Chunk.objects.open().filter(pk=chunk_id, run__in=others).select_related("run").first()
    if chunk is not None:
        # Wait first: otherwise this worker would spin on such jobs.
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
def _leased(chunk: Chunk) -> Iterator[threading.Event]:
    """Renew the lease in a thread, and release an unfinished chunk at the end.

    Yields an event that is set when the lease is lost.
    """
    lost, done = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                if not chunk.renew():
                    lost.set()
            except DatabaseError:
                # The work on the chunk retries or fails by itself.
                logger.warning("The database did not answer while at %s", chunk)
            finally:
                connection.close()

    heartbeats = threading.Thread(target=renew, daemon=True)
    heartbeats.start()
    try:
        yield lost
    finally:
        done.set()
        heartbeats.join()
        if chunk.position < len(chunk.asset_ids):
            retry_while_database_is_down(chunk.release)


class _Work:
    """The work on one claimed chunk."""

    def __init__(
        self, chunk: Chunk, pool: RenderPool, should_stop: ShouldStop, log_level: int
    ) -> None:
        self._chunk = chunk
        self._run = chunk.run
        self._root = RunRoot(run=chunk.run, root=chunk.root)
        self._pool = pool
        self._stop_requested = should_stop
        self._log_level = log_level
        self._look_at = time.monotonic() + LOOK_SECONDS  # the claim has just checked
        self._assets: dict[int, ImageAsset] = {}
        self._looked_at = 0.0
        is_purge = self._run.kind == Run.Kind.PURGE
        self._nothing_to_do = Outcome.PURGED if is_purge else Outcome.FRESH
        self._rendered_since = self._run.created_at if self._run.force else None
        self._began_at = time.monotonic()
        self._saved: Counter[str] = Counter()
        """How many results of each outcome are saved and counted."""

    def do(self) -> None:
        try:
            self._do_all()
        finally:
            self._log()

    def _do_all(self) -> None:
        known = self._run.roots.filter(root=self._chunk.root)
        self._root = retry_while_database_is_down(known.first) or self._root
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
                self._looked_at = time.monotonic()
                load = partial(ImageAsset.objects.in_bulk, ids[number:])
                self._assets = retry_while_database_is_down(load)
                flush_at = time.monotonic() + FLUSH_SECONDS
            limit.wait()
            try:
                results.append(self._do_one(asset_id))
            except NotDecoded:
                break
            if (streak := self._fatal_streak(results)) is not None:
                self._flush(results[: -streak.unsaved])
                retry_while_database_is_down(partial(self._leave_root, streak))
                return
        self._flush(results)

    def _log(self) -> None:
        """Log what became of the chunk's images, and how fast."""
        number, total = self._saved.total(), len(self._chunk.asset_ids)
        if number == 0:
            return
        rate = number / max(time.monotonic() - self._began_at, 0.001)
        logger.log(
            self._log_level,
            "%s, chunk %d: %d of %d images: %s; %.1f a second",
            self._run,
            self._chunk.number,
            number,
            total,
            ", ".join(f"{count} {outcome}" for outcome, count in self._saved.items()),
            rate,
            extra={
                "run": self._run.pk,
                "chunk": self._chunk.number,
                "images": number,
                "outcomes": dict(self._saved),
                "rate": round(rate, 1),
            },
        )

    def _should_stop(self) -> bool:
        if self._stop_requested():
            return True
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_SECONDS
        wanted = Chunk.objects.reachable().filter(pk=self._chunk.pk, run__state=Run.State.RUNNING)
        return not retry_while_database_is_down(wanted.exists)

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
            try_known=self._run.force or "retry_of" in self._run.scope,
            run_id=self._run.pk,
            looked_at=self._looked_at,
            should_stop=self._should_stop,
        )

    # --- saving -------------------------------------------------------------------------------

    def _flush(self, results: list[Result]) -> bool:
        """Save and count. Returns False, without saving anything, if the lease is lost."""
        while results:
            try:
                if not retry_while_database_is_down(partial(self._save, results)):
                    return False
            except _Void as void:
                results = self._with_void_ones_redone(results, void.asset_ids)
            else:
                self._chunk.position += len(results)
                self._note(results)
                for column, length in self._streaks(results).items():
                    setattr(self._root, column, length)
                break
        return True

    def _note(self, results: list[Result]) -> None:
        self._saved.update(result.outcome.value for result in results)
        for result in results:
            if result.outcome == Outcome.FAILED:
                where = f"in run {self._run.pk}"
                log_result(result, where, run_id=self._run.pk, level=self._log_level)

    def _save(self, results: list[Result]) -> bool:
        """Results and counts in one transaction. May be retried after a lost connection."""
        with transaction.atomic():
            locked = self._chunk.lock()
            if locked is None or locked.position != self._chunk.position:
                # An attempt whose answer was lost may have saved them, and then sent no signal.
                is_saved = self._is_saved(locked, results)
                if is_saved:
                    tell_on_commit(changes_of(results), run_id=self._run.pk)
                return is_saved
            void = save_results(results, run_id=self._run.pk)
            if void:
                raise _Void(void)
            locked.record(results)
            streaks = self._streaks(results)
            if any(getattr(self._root, column) != length for column, length in streaks.items()):
                # Not in the chunk: a streak may extend over many small ones.
                RunRoot.objects.save_one(self._run.pk, self._chunk.root, **streaks)
        return True

    def _is_saved(self, locked: Chunk | None, results: list[Result]) -> bool:
        if locked is not None:
            return locked.position == self._chunk.position + len(results)
        return Chunk.objects.filter(
            pk=self._chunk.pk,
            lease_token=self._chunk.lease_token,
            position=self._chunk.position + len(results),
            finished_at__isnull=False,
        ).exists()

    def _with_void_ones_redone(self, results: list[Result], void: set[int]) -> list[Result]:
        """Only up to where the work is stopped: the rest is left to do."""
        done = []
        for result in results:
            try:
                done.append(self._redone(result) if result.asset_id in void else result)
            except NotDecoded:
                break
        return done

    def _redone(self, before: Result) -> Result:
        """A result from the current row, which is saved already and only has to be counted."""
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
        is_own = again.outcome == Outcome.FRESH and before.outcome == Outcome.RENDERED
        return Result(
            asset_id=before.asset_id,
            outcome=before.outcome if is_own else again.outcome,
            reason=again.reason,
            before=before.before,
            after=again.after,
        )

    # --- a root that is away ------------------------------------------------------------------

    def _fatal_streak(self, results: list[Result]) -> _FailureStreak | None:
        """A streak of failures so long that the storage fails, not an image; else None."""
        for column, (reason, at_most, text) in IN_A_ROW.items():
            if column == "missing_in_a_row" and self._root.ignores_missing:
                continue
            unsaved = _in_a_row(results, reason)
            length = self._streaks(results)[column]
            if unsaved and length >= at_most:
                failure = results[-1].failure
                detail = failure.thumbnail_error_detail if failure else ""
                detail = detail or "The cache cannot be written."
                where = f"Root {self._chunk.root}: " if self._chunk.root else ""
                said = f"{where}{text.format(length)} {detail}"[:REASON_LENGTH]
                return _FailureStreak(self._chunk.root, column, unsaved, said)
        return None

    def _leave_root(self, streak: _FailureStreak) -> None:
        """Leave the rest of the root undone until the run is resumed."""
        _, at_most, _ = IN_A_ROW[streak.column]
        chunks = Chunk.objects.filter(run=self._run.pk)
        roots = RunRoot.objects.filter(run=self._run.pk, root=streak.root)
        with transaction.atomic():
            if not Run.objects.running().filter(pk=self._run.pk).exists():
                return
            is_known = roots.away().exists()
            # After the run is resumed, one more failure leaves the root again.
            RunRoot.objects.save_one(
                self._run.pk, streak.root, away=streak.reason, **{streak.column: at_most}
            )
            if not is_known and chunks.reachable().filter(finished_at=None).exists():
                # Otherwise the run pauses, with this reason.
                RunEvent.objects.create(
                    run=self._run, kind=RunEvent.Kind.ROOT_AWAY, detail=streak.reason
                )
        logger.error("%s leaves the rest of a root undone: %s", self._run, streak.reason)

    def _streaks(self, results: list[Result]) -> dict[str, int]:
        """The current length of each streak, including failures before these results."""
        lengths = {}
        for column, (reason, *_) in IN_A_ROW.items():
            before = getattr(self._root, column)
            length = _in_a_row(results, reason)
            lengths[column] = length + before if length == len(results) else length
        return lengths


def _in_a_row(results: list[Result], reason: Reason) -> int:
    def counts(result: Result) -> bool:
        return result.reason == reason and result.outcome == Outcome.FAILED

    return sum(1 for _ in takewhile(counts, reversed(results)))


# --- a command --------------------------------------------------------------------------------

PROGRESS_SECONDS = 1.0
"""How often progress is reported, and idle threads look for open chunks."""
GRACE_SECONDS = 10.0
"""How long renders in progress may take once the command is asked to stop."""


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(
    run: Run, *, processes: int, stop: Stop, on_progress: Callable[[Progress], None]
) -> Progress:
    """Work on the run until it is over and return its progress; `on_progress` gets it meanwhile.

    `processes` render processes decode, and threads of this process work on chunks like workers
    of the queue: one more than there are render processes, so that these need not wait for I/O.
    Raises Interrupted if `stop` is asked, after the current images, and NotFinished if the work
    fails or the run's recipe is no longer in force; both leave the run paused.
    """
    with pools.new_pool(processes, nice=pools.NICENESS if run.is_large else 0) as pool:
        threads = _WorkerThreads(run.pk, pool, number=processes + 1)
        try:
            while retry_while_database_is_down(partial(Run.objects.renew_lease, run.pk)):
                threads.wait(stop)
                if stop.is_asked() or threads.failure:
                    break
                if run.kind == Run.Kind.REGENERATE and recipe_in_force() != own_recipe():
                    raise NotFinished("Processes with another recipe were started since.")
                counts = partial(run.progress, with_ids=False)
                on_progress(retry_while_database_is_down(counts))
                if threads.are_idle():
                    retry_while_database_is_down(partial(Run.objects.settle, run.pk))
            if threads.failure:
                raise NotFinished(f"The work on it failed: {threads.failure!r}")
            stop.raise_if_asked()
        except (NotFinished, Interrupted) as error:
            retry_while_database_is_down(partial(pause, run, str(error)))
            raise
        finally:
            try:
                threads.end(stop)
            finally:
                with suppress(DatabaseError):
                    Run.objects.filter(pk=run.pk).update(lease_until=None)
    retry_while_database_is_down(run.refresh_from_db)
    progress = retry_while_database_is_down(run.progress)
    on_progress(progress)
    return progress


class _WorkerThreads:
    """Threads that work on the chunks of a run."""

    def __init__(self, run_id: int, pool: RenderPool, *, number: int) -> None:
        self._run_id = run_id
        self._pool = pool
        self._ended = threading.Event()
        self._idle: set[int] = set()
        self.failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, args=[index], daemon=True)
            for index in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def are_idle(self) -> bool:
        return len(self._idle) == len(self._threads)

    def wait(self, stop: Stop) -> None:
        """Wait for PROGRESS_SECONDS, or until `stop` is asked or no work is left."""
        give_up_at = time.monotonic() + PROGRESS_SECONDS
        were_at_work = not self.are_idle()
        while time.monotonic() < give_up_at and not self.failure:
            if stop.wait(POLL_SECONDS):
                return
            if were_at_work and self.are_idle():
                return

    def end(self, stop: Stop) -> None:
        """Stop after the current images; kill renders after GRACE_SECONDS or if asked again."""
        self._ended.set()
        give_up_at = time.monotonic() + GRACE_SECONDS
        asked = stop.times
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > give_up_at or stop.times > asked:
                self._pool.close()
                break
            time.sleep(POLL_SECONDS)
        for thread in self._threads:
            thread.join(GRACE_SECONDS)

    def _work(self, index: int) -> None:
        while not self._ended.is_set():
            try:
                self._work_on_next(index)
            except (OperationalError, InterfaceError) as error:
                # The chunk's lease expires, and another thread continues with it.
                logger.warning("The database does not answer at run %d: %s", self._run_id, error)
            except Exception as error:
                logger.exception("The work on run %d failed", self._run_id)
                self.failure = error
                break
            finally:
                connection.close_if_unusable_or_obsolete()
        connection.close()

    def _work_on_next(self, index: int) -> None:
        open_chunks = retry_while_database_is_down(self._open_chunks)
        if not open_chunks:
            self._idle.add(index)
            self._ended.wait(PROGRESS_SECONDS)
            return
        self._idle.discard(index)
        # A different one for each thread, so that they rarely compete for a chunk.
        chunk_id = open_chunks[index % len(open_chunks)]
        if not work_chunk(chunk_id, lambda _: self._pool, self._ended.is_set):
            self._ended.wait(POLL_SECONDS)

    def _open_chunks(self) -> list[int]:
        """The first ones, one per thread."""
        running = Run.objects.running().filter(pk=self._run_id).values("pk")
        chunks = Chunk.objects.open().filter(run__in=running).order_by("number")
        return list(chunks.values_list("pk", flat=True)[: len(self._threads)])

"""Starting runs over many assets."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from thumbnails.batching import batched
from thumbnails.exceptions import (
    AlreadyUnderWay,
    KeyReused,
    NothingFailed,
    NotNow,
    Reason,
    UsageError,
)
from thumbnails.models import (
    Chunk,
    ImageAsset,
    KnownRecipe,
    Run,
    RunEvent,
    RunRequest,
    State,
    clock,
    recipe_in_force,
)
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.models.runs import RunQuerySet
from thumbnails.storage import originals
from thumbnails.upkeep.images.lost_files import record_lost_files
from thumbnails.upkeep.runs import planning
from thumbnails.upkeep.runs.control import cancel, dispatch, take_over
from thumbnails.upkeep.selection.conditions import Selection

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CHUNKS_AT_LEAST = 64
"""Per run, where its size allows: all workers stay busy to its end."""
CHUNK_AT_LEAST, CHUNK_AT_MOST = 16, 200
"""Assets per chunk. Claiming and finishing one costs 10 ms of CPU, a third of a phone photo."""
LOOK_SECONDS = 0.2
LOOKED_AT = 10_000
"""Up to this size of a selection, files are checked before a run and not only the database."""


def start(
    kind: Run.Kind,
    assets: ImageAssetQuerySet,
    *,
    origin: Run.Origin,
    scope_text: str,
    scope: dict[str, Any] | None = None,
    force: bool = False,
    by: "User | None" = None,
    rate: float | None = None,
    note: str = "",
    leased: bool = False,
    ignore_space: bool = False,
    even_empty: bool = False,
) -> Run:
    """Record a run over the current set of these assets, and hand it to the workers.

    `leased`: the caller works on it and nothing is enqueued. `rate`: images per second, shared by
    all processes. `even_empty`: a run over no assets is recorded, too, and done immediately.
    Raises UsageError if there are no assets otherwise; NoSpace if their thumbnails clearly do not
    fit, unless `ignore_space`; NotDispatched if the queue cannot be reached.
    """
    with transaction.atomic():
        total = assets.count()
        if total == 0 and not even_empty:
            raise UsageError("Nothing to do: no images match.")
        if kind == Run.Kind.REGENERATE and not ignore_space:
            planning.check_space(assets)
        run = Run.objects.create(
            kind=kind,
            origin=origin,
            force=force,
            scope=scope or {},
            scope_text=scope_text[:300],
            recipe=recipe_in_force().digest,
            started_by=by,
            rate=rate,
            note=note[:300],
            # By the database's clock, like the times of thumbnails that it is compared with.
            created_at=clock.now(),
        )
        if leased:
            Run.objects.renew_lease(run.pk)
            run.refresh_from_db()
        RunEvent.objects.create(run=run, kind=RunEvent.Kind.STARTED, by=by)
        run.total = _freeze(run, assets, about=total)
        run.save(update_fields=["total"])
    if total == 0:
        Run.objects.settle(run.pk)
        run.refresh_from_db()
    elif not leased:
        dispatch(run)
    return run


def _freeze(run: Run, assets: ImageAssetQuerySet, *, about: int) -> int:
    """Save the run's chunks, in constant memory. Returns the number of assets, `about` so many."""
    chunk_size = max(CHUNK_AT_LEAST, min(CHUNK_AT_MOST, about // CHUNKS_AT_LEAST))
    by_root = run.kind == Run.Kind.REGENERATE and bool(originals.roots())
    slices = (_slices_by_root if by_root else _slices)(assets, chunk_size)
    chunks = (
        Chunk(run=run, number=number, root=root, asset_ids=ids)
        for number, (root, ids) in enumerate(slices, start=1)
    )
    total = 0
    for batch in batched(chunks, 500):
        Chunk.objects.bulk_create(batch)
        total += sum(len(chunk.asset_ids) for chunk in batch)
    return total


def _slices(assets: ImageAssetQuerySet, size: int) -> Iterator[tuple[str, list[int]]]:
    """Yields ids in ascending order, and no root."""
    ids = assets.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=10_000)
    for part in batched(ids, size):
        yield "", part


def _slices_by_root(assets: ImageAssetQuerySet, size: int) -> Iterator[tuple[str, list[int]]]:
    """Yields roots, each with ids of assets whose originals are there."""
    rows = assets.order_by("pk").values_list("pk", "original").iterator(chunk_size=10_000)
    waiting: dict[str, list[int]] = {}
    for asset_id, name in rows:
        root = originals.root_of(name)
        part = waiting.setdefault(root, [])
        part.append(asset_id)
        if len(part) == size:
            yield root, waiting.pop(root)
    yield from waiting.items()


def _start_over(
    selection: Selection, assets: ImageAssetQuerySet, kind: Run.Kind, **how: Any
) -> Run:
    """As `start`, with the selection as the recorded scope."""
    return start(kind, assets, scope=selection.as_json(), scope_text=str(selection), **how)


def start_on_queue(
    kind: Run.Kind,
    selection: Selection,
    *,
    origin: Run.Origin,
    force: bool = False,
    by: "User | None" = None,
    key: "RequestKey | None" = None,
    **how: Any,
) -> Run:
    """Start a run over what the selection needs to have done, and hand it to the workers.

    If there is nothing to do, the run has no assets and is done. With a key, a repeated request
    returns the run of the first one. `how` and exceptions as for `start`; also raises
    AlreadyUnderWay if a run over the same selection has not ended, and logs that in this run.
    """
    if key is not None and (earlier := key.earlier_run()) is not None:
        return earlier
    # Accesses files, so it runs outside the transaction.
    assets = _to_do(kind, selection, force=force, look_at_files_up_to=LOOKED_AT)

    def act() -> Run:
        with transaction.atomic():
            # One start at a time, so that the second of two at once sees the first one's run.
            list(KnownRecipe.objects.select_for_update().order_by("digest"))
            same = unfinished_over(kind, selection, force=force).first()
            if same is not None:
                raise AlreadyUnderWay(same)
            return _start_over(
                selection, assets, kind, origin=origin, force=force, by=by, even_empty=True, **how
            )

    try:
        return act() if key is None else key.once(act)
    except AlreadyUnderWay as error:
        RunEvent.objects.create(
            run=error.run,
            kind=RunEvent.Kind.ALSO_WANTED,
            detail="The same was asked for again; it was not started a second time.",
            by=by,
        )
        raise


def start_or_continue(
    kind: Run.Kind, selection: Selection, *, force: bool = False, **how: Any
) -> Run | None:
    """Returns the leased run that a command has to work on: its unfinished one, or a new one.

    None if there is nothing to do. `how` and exceptions as for `start`; also raises NotNow if
    another process of the same command works on it.
    """
    same = unfinished_over(kind, selection, force=force)
    unfinished = same.filter(origin=Run.Origin.COMMAND).first()
    if unfinished is not None:
        _wait_for_lease(unfinished)
        goes_on = force or kind == Run.Kind.PURGE
        if goes_on and unfinished.recipe == recipe_in_force().digest:
            take_over(unfinished)
            return unfinished
        # What it rendered is fresh now, so a new run over the rest continues it.
        cancel(unfinished, reason="The same command was started again.")
    assets = _to_do(kind, selection, force=force)
    if not assets.exists():
        return None
    return _start_over(
        selection, assets, kind, origin=Run.Origin.COMMAND, force=force, leased=True, **how
    )


def unfinished_over(kind: Run.Kind, selection: Selection, *, force: bool) -> RunQuerySet:
    """Returns the running and paused runs over the same selection, with their users selected."""
    unfinished = Run.objects.filter(state__in=(Run.State.RUNNING, Run.State.PAUSED))
    same = unfinished.filter(kind=kind, force=force, scope=selection.as_json())
    return same.select_related("started_by")


def others_doing_the_same(run: Run) -> list[Run]:
    """Returns the other running runs over the same scope, with their users selected."""
    if run.is_over:
        return []
    same = Run.objects.running().filter(
        kind=run.kind, force=run.force, scope=run.scope, scope_text=run.scope_text
    )
    return list(same.exclude(pk=run.pk).select_related("started_by"))


def _wait_for_lease(run: Run) -> None:
    """Wait until a killed command's lease expires. Raises NotNow if the lease is renewed."""
    last_sign = run.lease_until
    while run.is_leased:
        time.sleep(LOOK_SECONDS)
        run.refresh_from_db()
        if run.lease_until != last_sign and run.is_leased:
            raise NotNow(
                f"The same is under way already, as run {run.pk}: "
                f"see manage.py thumbnail_runs watch {run.pk}"
            )


def _to_do(
    kind: Run.Kind, selection: Selection, *, force: bool, look_at_files_up_to: int | None = None
) -> ImageAssetQuerySet:
    """What the run has to work on. Records lost files first, unless the selection is larger than
    `look_at_files_up_to`: an audit finds them, too."""
    assets = selection.assets()
    if planning.skips_fresh(kind, force=force) and (
        look_at_files_up_to is None or assets.count() <= look_at_files_up_to
    ):
        record_lost_files(assets)
    return planning.to_do(kind, assets, force=force)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """The idempotency key of a request: a repeated key returns the same run."""

    user: "User"
    key: str
    request: list[Any]
    """What it asks for, as JSON."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()

    def earlier_run(self) -> Run | None:
        """Returns the run of an earlier request with this key, or None. Raises KeyReused."""
        request = RunRequest.objects.select_related("run").filter(
            user=self.user, key=self.key, created_at__gte=timezone.now() - RunRequest.KEPT
        )
        return self._run_of(request.first())

    def once(self, act: Callable[[], Run]) -> Run:
        """Returns the run that `act` returns, or returned for an earlier request with the key.

        In one transaction. Raises KeyReused, and what `act` raises: then the key stays unused.
        """
        with transaction.atomic():
            RunRequest.objects.filter(created_at__lt=timezone.now() - RunRequest.KEPT).delete()
            # A concurrent request with the key waits here for the end of this transaction.
            request, is_new = RunRequest.objects.select_related("run").get_or_create(
                user=self.user, key=self.key, defaults={"digest": self.digest}
            )
            if not is_new and (run := self._run_of(request)) is not None:
                return run
            request.run = act()
            request.save(update_fields=["run"])
            return request.run

    def _run_of(self, request: RunRequest | None) -> Run | None:
        if request is None:
            return None
        if request.digest != self.digest:
            raise KeyReused(f"The key {self.key!r} was used for another request.")
        return request.run


def retry(
    run: Run,
    *,
    origin: Run.Origin,
    reason: Reason | None = None,
    by: "User | None" = None,
    leased: bool = False,
) -> Run:
    """Start a run over the assets that failed in `run`, all or those of one reason.

    Retries crashed ones, too, and skips accepted failures. Raises NotNow if `run` is a purge,
    NothingFailed if none of them is left, NotDispatched.
    """
    failures = run.progress().failures
    ids = [i for why, some in failures.items() if reason in (None, why) for i in some]
    words = f" as {reason.label}" if reason else ""
    if run.kind != Run.Kind.REGENERATE:
        raise NotNow(f"{run} is a purge: start another one instead.")
    if not ids:
        raise NothingFailed(f"Nothing failed{words} in {run}.")
    assets = ImageAsset.objects.filter(pk__in=ids).in_state(*(set(State) - {State.ACCEPTED}))
    if not assets.exists():
        raise NothingFailed(f"All that failed{words} in {run} is accepted or deleted.")
    return start(
        Run.Kind.REGENERATE,
        assets,
        origin=origin,
        scope={"retry_of": run.pk, "reason": reason},
        scope_text=f"what failed{words} in {run}",
        by=by,
        leased=leased,
    )

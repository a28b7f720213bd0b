"""One asset: make its thumbnail true, or take it away."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO

from thumbnails import conf
from thumbnails.exceptions import Reason, StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, Outcome, State, clock
from thumbnails.models.assets import DETAIL_LENGTH
from thumbnails.models.recipes import own_recipe
from thumbnails.models.results import (
    NO_FAILURE,
    NO_THUMBNAIL,
    Failure,
    Read,
    Record,
    Result,
    save_results,
)
from thumbnails.models.retry import retry_while_database_is_down
from thumbnails.rendering import Facts, Recipe, Rendering, inspect
from thumbnails.rendering.pool import RenderPool, never
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import name_for
from thumbnails.storage.thumbnails import Cached

TRANSIENT = (Reason.SOURCE_MISSING, Reason.STORAGE_ERROR)
"""The place failed, not the picture: trying again costs little and may well succeed."""
LOOK_AGAIN_SECONDS = 5.0
"""After so long the row is looked at again before the file is replaced or deleted: a process that
was stopped for a while would put an old picture in place of a newer one, or delete that."""
TRIES = 5
"""To save a result of an asset that others change at the same time."""


def refresh(
    asset: ImageAsset,
    pool: RenderPool,
    *,
    rendered_since: datetime | None = None,
    try_crashed: bool = False,
    run_id: int | None = None,
    looked_at: float | None = None,
    should_stop: Callable[[], bool] = never,
) -> Result:
    """Make the asset's thumbnail true, for one of many: the caller saves the result.

    A fresh one is left alone, unless `rendered_since` asks for one made since then; so is one
    that crashed, unless `try_crashed`. Raises nothing over a bad original or a storage that errs:
    the result says so. `run_id` goes into the asset's history; `looked_at` is when the asset was
    read from the database, by the monotonic clock, and now by default. Raises NotDecoded where the
    pool was closed, or `should_stop` says so when it is the picture's turn.
    """
    if asset.thumbnail_error == Reason.CRASHED and not try_crashed and not is_worth_a_try(asset):
        return Result(asset_id=asset.pk, outcome=Outcome.FAILED, reason=Reason.CRASHED)
    with render_lock(asset.pk, patience_seconds=2 * conf.current().render_seconds):
        # Also where another process keeps the lock for that long: then it hangs.
        result = make_true(
            asset,
            pool,
            rendered_since=rendered_since,
            looked_at=looked_at,
            should_stop=should_stop,
        )
    return replace(noted(asset, result, run_id), content=None)


def purge(
    asset: ImageAsset, *, run_id: int | None = None, looked_at: float | None = None
) -> Result:
    """Delete the asset's thumbnail, for one of many: the caller saves the result.

    `looked_at` as for `refresh`.
    """
    looked_at = looked_at or time.monotonic()
    with render_lock(asset.pk, patience_seconds=2 * conf.current().render_seconds):
        return noted(asset, _purged(asset, looked_at), run_id)


def _purged(asset: ImageAsset, looked_at: float) -> Result:
    try:
        _look_again(asset, looked_at)
        cache.delete(asset.thumbnail_name)
    except _Changed:
        # Void when it is saved, so that it is tried again with the row as it is now.
        return Result(asset_id=asset.pk, outcome=Outcome.PURGED, read=Read.of(asset))
    except StorageFailure as error:
        return Result(asset_id=asset.pk, outcome=Outcome.FAILED, reason=error.reason)
    return Result(
        asset_id=asset.pk,
        outcome=Outcome.PURGED,
        read=Read.of(asset),
        record=NO_THUMBNAIL,
        failure=NO_FAILURE,
    )


def purge_now(asset_id: int, *, run_id: int | None = None) -> Result | None:
    """Delete the thumbnail and save that; None where there is no such asset any more."""
    return _now(asset_id, lambda asset: _purged(asset, time.monotonic()), run_id=run_id)


def refresh_now(
    asset_id: int,
    pool: RenderPool,
    *,
    rendered_since: datetime | None = None,
    run_id: int | None = None,
) -> Result | None:
    """As `refresh`, and saves the result; None where there is no such asset any more."""
    return _now(
        asset_id, lambda asset: make_true(asset, pool, rendered_since=rendered_since), run_id=run_id
    )


def _now(
    asset_id: int, act: Callable[[ImageAsset], Result], *, run_id: int | None
) -> Result | None:
    """Act on the asset and save the result under its lock, so that no other act comes between."""
    result = None
    with render_lock(asset_id, patience_seconds=2 * conf.current().render_seconds):
        for _ in range(TRIES):
            asset = retry_while_database_is_down(ImageAsset.objects.filter(pk=asset_id).first)
            if asset is None:
                delete_orphan(asset_id)
                return None
            result = noted(asset, act(asset), run_id)
            save = partial(save_results, [result])
            if not retry_while_database_is_down(save):
                break
    return result


def delete_orphan(asset_id: int) -> None:
    """Delete the file of an asset that is not there any more."""
    with suppress(StorageFailure):  # an audit will find it
        cache.delete(name_for(asset_id))


def delete_unrecorded(asset_id: int) -> None:
    """Delete the file of an asset that has no thumbnail by the database."""
    with (
        suppress(StorageFailure),
        render_lock(asset_id, patience_seconds=conf.current().render_seconds),
    ):
        if ImageAsset.objects.filter(pk=asset_id, thumbnail_path="").exists():
            cache.delete(name_for(asset_id))


def noted(asset: ImageAsset, result: Result, run_id: int | None = None) -> Result:
    """The result with the asset's history, where something has changed."""
    if result.record is None and result.failure is None:
        return result
    history = asset.history_with(result.outcome, reason=result.reason, run_id=run_id)
    return replace(result, history=history)


def is_worth_a_try(asset: ImageAsset, *, patience_seconds: float | None = None) -> bool:
    """Whether a failed one may go better now; what has not failed always may.

    Looks at the original, for so long at most.
    """
    if asset.state != State.FAILED or asset.thumbnail_error in TRANSIENT:
        return True
    try:
        name = str(asset.original.name)
        version = originals.source_version(name, patience_seconds=patience_seconds)
    except ThumbnailError:
        return True  # and then the try finds its reason
    return version != asset.source_version


# --- making it true ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Try:
    """What is found out on the way, also to say how far it came."""

    asset: ImageAsset
    recipe: Recipe
    version: str
    """The original's, as it was read."""
    cached: Cached | None = None
    """What lies in the cache."""
    rendering: Rendering | None = None
    facts: Facts | None = None


class _Changed(Exception):
    """The row is not any more what it was."""


def make_true(
    asset: ImageAsset,
    pool: RenderPool,
    *,
    rendered_since: datetime | None = None,
    looked_at: float | None = None,
    should_stop: Callable[[], bool] = never,
) -> Result:
    """Render the thumbnail unless it is true already. The file is in place when this returns.

    To be called under the asset's lock. The file comes first and the row after it: a crash
    between the two leaves a fresh file that the database calls stale, which the next try finds by
    its stamp; never the contrary.
    """
    looked_at = looked_at or time.monotonic()
    this = _Try(asset, own_recipe(), asset.source_version)
    try:
        this.cached = cache.load(asset.thumbnail_name)
        if (found := _found_fresh(this, rendered_since)) is not None:
            return found
        _render(this, pool, should_stop)
        _look_again(asset, looked_at)
        if this.rendering is not None:
            cache.write(asset.thumbnail_name, this.rendering.content)
    except ThumbnailError as error:
        return _failed(this, error)
    except _Changed:
        # Void when it is saved, so that it is tried again with the row as it is now.
        return Result(asset_id=asset.pk, outcome=Outcome.RENDERED, read=Read.of(asset))
    return _rendered(this)


def _render(this: _Try, pool: RenderPool, should_stop: Callable[[], bool]) -> None:
    name = str(this.asset.original.name)
    with originals.read(name) as original:
        this.version = original.version
        this.rendering, this.facts = pool.render(
            original.spool,
            this.recipe,
            name=name,
            fingerprint=this.recipe.fingerprint(original.version),
            max_pixels=conf.current().max_pixels,
            with_facts=original.version != this.asset.source_version,
            should_stop=should_stop,
        )


def _look_again(asset: ImageAsset, looked_at: float) -> None:
    """Raises _Changed where the row was read a while ago and is another one now."""
    if time.monotonic() - looked_at < LOOK_AGAIN_SECONDS:
        return
    now = retry_while_database_is_down(ImageAsset.objects.filter(pk=asset.pk).first)
    if now is None or Read.of(now) != Read.of(asset):
        raise _Changed


def _found_fresh(this: _Try, rendered_since: datetime | None) -> Result | None:
    """The result where the cache's file is true already; None where it is not.

    It may be so though the row does not know: another process made it a moment ago, or a crash
    came between the file and the row.
    """
    asset, cached = this.asset, this.cached
    if cached is None or cached.stamp != this.recipe.fingerprint(asset.source_version):
        return None
    is_recorded = asset.state == State.FRESH and asset.thumbnail_bytes == len(cached.content)
    made_at = (
        asset.thumbnail_generated_at
        if is_recorded
        else datetime.fromtimestamp(cached.modified_at, UTC)
    )
    if rendered_since is not None and (made_at is None or made_at < rendered_since):
        return None
    # Also where it then proves to be gone: its thumbnail is kept, and the failure recorded.
    if originals.source_version(str(asset.original.name)) != asset.source_version:
        return None
    if is_recorded:
        return Result(asset_id=asset.pk, outcome=Outcome.FRESH, content=cached.content)
    try:
        facts = inspect(BytesIO(cached.content), max_pixels=conf.current().max_pixels)
    except ThumbnailError:  # damaged in spite of its stamp
        return None
    this.rendering = Rendering(content=cached.content, width=facts.width, height=facts.height)
    return replace(
        _rendered(this), outcome=Outcome.FRESH, record=_record(this, made_at or clock.now())
    )


def _rendered(this: _Try) -> Result:
    return Result(
        asset_id=this.asset.pk,
        outcome=Outcome.RENDERED,
        read=Read.of(this.asset),
        record=_record(this, clock.now()),
        failure=NO_FAILURE,
        facts=this.facts,
        source_version=this.version,
        content=this.rendering.content if this.rendering else None,
    )


def _record(this: _Try, generated_at: datetime) -> Record | None:
    if this.rendering is None:
        return None
    return Record(
        thumbnail_path=this.asset.thumbnail_name,
        thumbnail_width=this.rendering.width,
        thumbnail_height=this.rendering.height,
        thumbnail_bytes=len(this.rendering.content),
        thumbnail_generated_at=generated_at,
        thumbnail_recipe=this.recipe.digest,
        thumbnail_source=this.version,
    )


def _failed(this: _Try, error: ThumbnailError) -> Result:
    """The failure, recorded beside the thumbnail that there is: it stays and is served."""
    is_lost = this.cached is None and bool(this.asset.thumbnail_path) and not _is_cache(error)
    return Result(
        asset_id=this.asset.pk,
        outcome=Outcome.FAILED,
        reason=error.reason,
        read=Read.of(this.asset),
        record=NO_THUMBNAIL if is_lost else None,
        failure=Failure(
            thumbnail_error=error.reason.value,
            thumbnail_error_detail=str(error)[:DETAIL_LENGTH],
            thumbnail_error_recipe=this.recipe.digest,
            thumbnail_error_source=this.version,
        ),
        facts=this.facts,
        source_version=this.version,
        content=this.rendering.content if this.rendering else None,
        is_stored=False,
    )


def _is_cache(error: ThumbnailError) -> bool:
    """A storage erred: whether the cache has the file is not known."""
    return error.reason == Reason.STORAGE_ERROR

"""Refreshing and purging the thumbnail of one asset."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

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
from thumbnails.rendering import FACTS_VERSION, Facts, Recipe, Rendering, read_size
from thumbnails.rendering.pool import RenderPool, never
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import name_for
from thumbnails.storage.thumbnails import ThumbnailFile

TRANSIENT = (Reason.SOURCE_MISSING, Reason.STORAGE_ERROR)
"""The storage failed, not the image: trying again costs little and may well succeed."""
LOOK_AGAIN_SECONDS = 5.0
"""After that long the row is read again before the file is replaced or deleted: a process that
was suspended could otherwise replace or delete a newer thumbnail."""
ATTEMPTS = 5
"""To save a result of an asset that other processes change at the same time."""


def refresh(
    asset: ImageAsset,
    pool: RenderPool,
    *,
    rendered_since: datetime | None = None,
    try_known: bool = False,
    run_id: int | None = None,
    looked_at: float | None = None,
    should_stop: Callable[[], bool] = never,
) -> Result:
    """Refresh the thumbnail of one of many assets; the caller saves the result.

    Skips a fresh thumbnail unless it is older than `rendered_since`, and an original that is known
    to crash or whose failure is accepted unless `try_known`. A bad original or a failing storage
    raises nothing, but is in the result. `run_id` is for the asset's history; `looked_at` is when
    the asset was loaded, by the monotonic clock, by default now. Raises NotDecoded if the pool is
    closed or `should_stop` returns True.
    """
    is_accepted = asset.state == State.ACCEPTED
    is_known = is_accepted or asset.thumbnail_error == Reason.CRASHED
    if is_known and not try_known and not is_worth_a_try(asset):
        outcome = Outcome.ACCEPTED if is_accepted else Outcome.FAILED
        reason = Reason(asset.thumbnail_error)
        skipped = Result(asset_id=asset.pk, outcome=outcome, reason=reason)
        return with_history(asset, skipped)
    with render_lock(asset.pk, patience_seconds=2 * conf.current().render_seconds):
        # Also without the lock: a process that holds it that long hangs.
        result = refresh_locked(
            asset,
            pool,
            rendered_since=rendered_since,
            looked_at=looked_at,
            should_stop=should_stop,
        )
    return replace(with_history(asset, result, run_id), content=None, variants={})


def purge(
    asset: ImageAsset, *, run_id: int | None = None, looked_at: float | None = None
) -> Result:
    """Delete the thumbnail of one of many assets; the caller saves the result.

    `looked_at` as for `refresh`.
    """
    looked_at = looked_at or time.monotonic()
    with render_lock(asset.pk, patience_seconds=2 * conf.current().render_seconds):
        return with_history(asset, _purged(asset, looked_at), run_id)


def _purged(asset: ImageAsset, looked_at: float) -> Result:
    try:
        _look_again(asset, looked_at)
        cache.delete_with_variants(asset.pk, variants_of(asset))
    except _Changed:
        # Void when it is saved, and so retried with the current row.
        return Result(asset_id=asset.pk, outcome=Outcome.PURGED, read=Read.of(asset))
    except StorageFailure as error:
        return Result(asset_id=asset.pk, outcome=Outcome.FAILED, reason=error.reason)
    return Result(
        asset_id=asset.pk,
        outcome=Outcome.PURGED,
        read=Read.of(asset),
        record=NO_THUMBNAIL,
        failure=Failure(accepted_source=asset.accepted_source),
    )


def purge_now(asset_id: int, *, run_id: int | None = None) -> Result | None:
    """Delete the thumbnail and save the result. Returns None if the asset was deleted."""
    return _now(asset_id, lambda asset: _purged(asset, time.monotonic()), run_id=run_id)


def refresh_now(
    asset_id: int,
    pool: RenderPool,
    *,
    rendered_since: datetime | None = None,
    run_id: int | None = None,
) -> Result | None:
    """As `refresh`, and saves the result. Returns None if the asset was deleted."""
    return _now(
        asset_id,
        lambda asset: refresh_locked(asset, pool, rendered_since=rendered_since),
        run_id=run_id,
    )


def _now(
    asset_id: int, act: Callable[[ImageAsset], Result], *, run_id: int | None
) -> Result | None:
    """Act on the asset and save the result, both under its lock."""
    result = None
    with render_lock(asset_id, patience_seconds=2 * conf.current().render_seconds):
        for _ in range(ATTEMPTS):
            asset = retry_while_database_is_down(ImageAsset.objects.filter(pk=asset_id).first)
            if asset is None:
                delete_orphan(asset_id)
                return None
            result = with_history(asset, act(asset), run_id)
            save = partial(save_results, [result], run_id=run_id)
            if not retry_while_database_is_down(save):
                break
    return result


def variants_of(asset: ImageAsset) -> set[str]:
    """Returns the suffixes of the variants that may be in the cache."""
    return own_suffixes().union(asset.thumbnail_variants)


def own_suffixes() -> set[str]:
    """Returns the suffixes of the variants that this process renders."""
    return {variant.suffix for variant in own_recipe().variants}


def delete_orphan(asset_id: int, recorded: Iterable[str] = ()) -> None:
    """Delete the files of a deleted asset, with the variants that were `recorded`."""
    with suppress(StorageFailure):  # an audit finds them later
        cache.delete_with_variants(asset_id, own_suffixes().union(recorded))


def delete_unrecorded(asset_id: int, recorded: Iterable[str] = ()) -> None:
    """Delete the files of an asset without a recorded thumbnail, with the variants that were
    `recorded`."""
    with render_lock(asset_id, patience_seconds=conf.current().render_seconds):
        delete_unrecorded_locked(asset_id, recorded)


def delete_unrecorded_locked(asset_id: int, recorded: Iterable[str] = ()) -> None:
    """As `delete_unrecorded`, to be called under the asset's lock."""
    with suppress(StorageFailure):  # an audit finds them later
        if ImageAsset.objects.filter(pk=asset_id, thumbnail_path="").exists():
            cache.delete_with_variants(asset_id, own_suffixes().union(recorded))


def delete_unsaved(asset_ids: Iterable[int]) -> None:
    """Delete the files of thumbnails that a process has written but, since it died, not recorded.

    For assets that no process with their recipe works on any more. Otherwise a web server that
    sends files from disk would send them under the address of what is recorded.
    """
    for asset_id in asset_ids:
        with (
            suppress(StorageFailure),  # an audit finds them later
            render_lock(asset_id, patience_seconds=conf.current().render_seconds),
        ):
            asset = ImageAsset.objects.filter(pk=asset_id).first()
            found = None if asset is None else cache.load(asset.thumbnail_name)
            if asset is None or found is None or found.stamp is None:
                continue
            if found.stamp != asset.recorded_fingerprint:
                cache.delete_with_variants(asset_id, variants_of(asset))


def with_history(asset: ImageAsset, result: Result, run_id: int | None = None) -> Result:
    """Returns the result with the fingerprints before and after it, and the asset's new history if
    it changes anything."""
    before = asset.recorded_fingerprint if result.read is None else result.read.recorded
    after = before if result.record is None else result.record.fingerprint
    history = None
    if result.record is not None or result.failure is not None:
        # What is accepted failed all the same, and processes of the version before know no more.
        outcome = Outcome.FAILED if result.outcome == Outcome.ACCEPTED else result.outcome
        history = asset.history_with(outcome, reason=result.reason, run_id=run_id)
    return replace(result, history=history, before=before, after=after)


def is_worth_a_try(asset: ImageAsset, *, patience_seconds: float | None = None) -> bool:
    """Whether an attempt may succeed: False after a permanent failure with the same original.

    Looks at the original, for at most `patience_seconds`.
    """
    if not asset.state.is_failure or asset.thumbnail_error in TRANSIENT:
        return True
    try:
        name = str(asset.original.name)
        version = originals.source_version(name, patience_seconds=patience_seconds)
    except ThumbnailError:
        return True  # the attempt records the reason
    return version != asset.source_version


# --- one attempt ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Attempt:
    """The intermediate results of an attempt, also of one that fails."""

    asset: ImageAsset
    recipe: Recipe
    version: str
    """Of the original as read."""
    cached: ThumbnailFile | None = None
    """The file in the cache."""
    rendering: Rendering | None = None
    facts: Facts | None = None


class _Changed(Exception):
    """The row has changed since it was read."""


def refresh_locked(
    asset: ImageAsset,
    pool: RenderPool,
    *,
    rendered_since: datetime | None = None,
    looked_at: float | None = None,
    should_stop: Callable[[], bool] = never,
) -> Result:
    """Render the thumbnail unless it is fresh, and write the file. Arguments as for `refresh`.

    To be called under the asset's lock. The files are written before the row: a crash in between
    leaves a fresh thumbnail whose row is stale, which the next attempt detects by its stamp; never
    the opposite.
    """
    is_read_now = looked_at is None
    looked_at = looked_at or time.monotonic()
    this = _Attempt(asset, own_recipe(), asset.source_version)
    try:
        this.cached = cache.load(asset.thumbnail_name)
        if (found := _found_fresh(this, rendered_since)) is not None:
            return found
        _render(this, pool, should_stop)
        _look_again(asset, looked_at, at_once=not is_read_now and _is_of_another(this))
        if this.rendering is not None:
            _write(asset, this.rendering)
    except ThumbnailError as error:
        return _failed(this, error)
    except _Changed:
        # Void when it is saved, and so retried with the current row.
        return Result(asset_id=asset.pk, outcome=Outcome.RENDERED, read=Read.of(asset))
    return _rendered(this)


def _render(this: _Attempt, pool: RenderPool, should_stop: Callable[[], bool]) -> None:
    name = str(this.asset.original.name)
    with originals.read(name) as original:
        this.version = original.version
        with_facts = (
            original.version != this.asset.source_version
            or this.asset.facts_version < FACTS_VERSION
        )
        try:
            this.rendering, this.facts = pool.render(
                original.spool,
                this.recipe,
                name=name,
                fingerprint=this.recipe.fingerprint(original.version),
                max_pixels=conf.current().max_pixels,
                with_hash=conf.current().placeholders,
                show_truncated=conf.current().show_truncated,
                with_facts=with_facts,
                should_stop=should_stop,
            )
        except ThumbnailError:
            if with_facts:  # they find what fails alike
                with suppress(ThumbnailError):
                    this.facts = pool.inspect(
                        original.spool, name=name, max_pixels=conf.current().max_pixels
                    )
            raise


def _write(asset: ImageAsset, rendering: Rendering) -> None:
    """Replace the files, the thumbnail last: its stamp says of which render all of them are."""
    for suffix, variant in rendering.variants.items():
        cache.write(name_for(asset.pk, suffix), variant.content)
    cache.write(asset.thumbnail_name, rendering.content)
    _delete_variants(asset, asset.thumbnail_variants.keys() - rendering.variants.keys())


def _delete_variants(asset: ImageAsset, suffixes: Iterable[str]) -> None:
    with suppress(StorageFailure):  # an audit finds them later
        for suffix in suffixes:
            cache.delete(name_for(asset.pk, suffix))


def _is_of_another(this: _Attempt) -> bool:
    """Whether the file in the cache is not the one of the row: since that was read, another
    process may have rendered a newer original, whose address must not show an older picture."""
    found = None if this.cached is None else this.cached.stamp
    return found != this.asset.recorded_fingerprint


def _look_again(asset: ImageAsset, looked_at: float, *, at_once: bool = False) -> None:
    """Raises _Changed if the row has changed since it was read, a while ago unless `at_once`."""
    if not at_once and time.monotonic() - looked_at < LOOK_AGAIN_SECONDS:
        return
    now = retry_while_database_is_down(ImageAsset.objects.filter(pk=asset.pk).first)
    if now is None or Read.of(now) != Read.of(asset):
        raise _Changed


def _found_fresh(this: _Attempt, rendered_since: datetime | None) -> Result | None:
    """The result if the file in the cache is fresh already, else None.

    The row may not say so: another process has just written the file, or a crash came between
    file and row.
    """
    asset, cached = this.asset, this.cached
    if cached is None or cached.stamp != this.recipe.fingerprint(asset.source_version):
        return None
    is_recorded = (
        asset.state == State.FRESH
        and asset.thumbnail_bytes == len(cached.content)
        and has_variants(asset.pk, asset.thumbnail_variants)
    )
    settings = conf.current()
    if not is_recorded and (
        this.recipe.variants or settings.placeholders or settings.show_truncated
    ):
        return None  # a variant is missing, or what was made with the file is not recorded
    made_at = (
        asset.thumbnail_generated_at
        if is_recorded
        else datetime.fromtimestamp(cached.modified_at, UTC)
    )
    if rendered_since is not None and (made_at is None or made_at < rendered_since):
        return None
    # Raises if the original is gone: the thumbnail is kept and the failure recorded.
    if originals.source_version(str(asset.original.name)) != asset.source_version:
        return None
    if is_recorded:
        return Result(asset_id=asset.pk, outcome=Outcome.FRESH, content=cached.content)
    size = read_size(cached.content)
    if size is None:  # damaged despite its stamp
        return None
    this.rendering = Rendering(content=cached.content, width=size[0], height=size[1])
    return replace(
        _rendered(this), outcome=Outcome.FRESH, record=_record(this, made_at or clock.now())
    )


def has_variants(asset_id: int, recorded: Mapping[str, list[int]]) -> bool:
    """Whether all variants are in the cache as `recorded`. Raises StorageFailure."""
    return all(
        cache.size_bytes(name_for(asset_id, suffix)) == size_bytes
        for suffix, (_, _, size_bytes) in recorded.items()
    )


def _rendered(this: _Attempt) -> Result:
    return Result(
        asset_id=this.asset.pk,
        outcome=Outcome.RENDERED,
        read=Read.of(this.asset),
        record=_record(this, clock.now()),
        failure=NO_FAILURE,
        facts=this.facts,
        note=_note(this),
        source_version=this.version,
        content=this.rendering.content if this.rendering else None,
        variants=_contents(this.rendering),
    )


def _note(this: _Attempt) -> str | None:
    """The note to be saved; None if it is there already."""
    if this.rendering is None or (this.facts is None and this.rendering.note == this.asset.note):
        return None
    return this.rendering.note


def _contents(rendering: Rendering | None) -> dict[str, bytes]:
    """Of the variants."""
    variants = {} if rendering is None else rendering.variants
    return {suffix: variant.content for suffix, variant in variants.items()}


def _record(this: _Attempt, generated_at: datetime) -> Record | None:
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
        thumbnail_variants={
            suffix: [variant.width, variant.height, len(variant.content)]
            for suffix, variant in this.rendering.variants.items()
        },
        thumbnail_hash=this.rendering.thumb_hash,
    )


def _failed(this: _Attempt, error: ThumbnailError) -> Result:
    """The failure; an existing thumbnail is kept and served."""
    # If a storage failed, it is unknown whether the cache has the file.
    is_lost = (
        this.cached is None
        and bool(this.asset.thumbnail_path)
        and error.reason != Reason.STORAGE_ERROR
    )
    if is_lost:
        _delete_variants(this.asset, variants_of(this.asset))
    is_accepted = this.asset.accepts(error.reason, this.version)
    return Result(
        asset_id=this.asset.pk,
        outcome=Outcome.ACCEPTED if is_accepted else Outcome.FAILED,
        reason=error.reason,
        read=Read.of(this.asset),
        record=NO_THUMBNAIL if is_lost else None,
        failure=Failure(
            thumbnail_error=error.reason.value,
            thumbnail_error_detail=str(error)[:DETAIL_LENGTH],
            thumbnail_error_recipe=this.recipe.digest,
            thumbnail_error_source=this.version,
            accepted_source=this.asset.accepted_source,
        ),
        facts=this.facts,
        source_version=this.version,
        content=this.rendering.content if this.rendering else None,
        variants=_contents(this.rendering),
        is_stored=False,
    )

"""One asset: make its thumbnail true, hand it out, or take it away."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone

from thumbnails import conf, originals
from thumbnails.cache import storage as cache
from thumbnails.cache.flight import deaths, flight, forget_deaths, marked
from thumbnails.cache.layout import name_for
from thumbnails.exceptions import Crashed, Reason, StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, Outcome, State, recipe_in_force
from thumbnails.models.assets import DETAIL_LENGTH, NO_THUMBNAIL, Change, Record
from thumbnails.rendering import (
    Facts,
    Rendering,
    fingerprint_of,
    inspect,
    read_stamp,
    render,
)

# The place failed, not the picture: trying again costs little and may well succeed.
PASSING = (Reason.SOURCE_MISSING, Reason.STORAGE_ERROR)

Limit = Callable[[], AbstractContextManager[None]]

DEATHS_AT_MOST = 2
"""The first death may be anybody's; the second over the same original is its doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A thumbnail ready to be sent."""

    content: bytes
    stored: bool = True
    """False: the cache did not take it, so the next request renders it again."""


class Busy(Exception):
    """Somebody else is at it."""


class NoThumbnail(Exception):
    """There is none to be had; the reason stands in the ledger."""


def serve(asset: ImageAsset) -> Served:
    """The asset's thumbnail, rendered now where it is missing or stale; `asset` is then up to date.

    Many requests for the same one render it once. Raises NoThumbnail where the original is
    gone or broken; a broken one is decoded again only when it has changed.
    """
    if (content := _read_fresh(asset)) is not None:
        return Served(content=content)
    if not _worth_a_try(asset):
        raise NoThumbnail
    try:
        return _serve_anew(asset)
    except ImageAsset.DoesNotExist:  # deleted while we waited
        raise NoThumbnail from None


def _serve_anew(asset: ImageAsset) -> Served:
    with flight(asset.pk) as alone:
        if not alone:
            raise NoThumbnail
        asset.refresh_from_db()  # whoever was inside before us may have done it
        if (content := _read_fresh(asset)) is not None:
            return Served(content=content)
        if not _worth_a_try(asset):
            raise NoThumbnail
        change = _noted(asset, _made_true(asset))
        write_down([change])
    asset.refresh_from_db()
    if change.unstored is not None:
        return Served(content=change.unstored.content, stored=False)
    content = _read_fresh(asset)
    if content is None:
        raise NoThumbnail
    return Served(content=content)


def refresh(
    asset: ImageAsset,
    *,
    rendered_since: datetime | None = None,
    try_crashed: bool = False,
    limit: Limit = nullcontext,
    run_id: int | None = None,
) -> Change:
    """Make the asset's thumbnail true, for one of many: the caller calls `write_down`.

    A fresh one is left alone, unless `rendered_since` asks for one made since then; so is one
    that crashed, unless `try_crashed`. Raises nothing over a bad original or a storage that
    errs: the change says so. `limit` is entered while the original is decoded; `run_id` goes into
    the asset's history.
    """
    if asset.thumbnail_error == Reason.CRASHED and not try_crashed and not _worth_a_try(asset):
        return Change(asset_id=asset.pk, outcome=Outcome.FAILED, reason=Reason.CRASHED)
    with flight(asset.pk):
        change = _made_true(asset, rendered_since=rendered_since, limit=limit)
    return _noted(asset, change, run_id)


def render_now(asset: ImageAsset) -> Change:
    """Render the asset's thumbnail anew, even if it is fresh or crashed, and write it down.

    `asset` is up to date afterwards. Gives what it came to. Raises Busy where somebody else has
    been rendering it for longer than a picture may take, and ImageAsset.DoesNotExist where it was
    deleted meanwhile.
    """
    asked_at = timezone.now()
    with flight(asset.pk) as alone:
        if not alone:
            raise Busy("Somebody else is rendering this thumbnail and does not come to an end.")
        asset.refresh_from_db()
        change = _noted(asset, _made_true(asset, rendered_since=asked_at))
        write_down([change])
    asset.refresh_from_db()
    return change


def purge(asset: ImageAsset, *, run_id: int | None = None) -> Change:
    """Delete the asset's thumbnail, for one of many: the caller calls `write_down`."""
    with flight(asset.pk):
        try:
            cache.delete(asset.thumbnail_name)
        except StorageFailure as error:
            return Change(asset_id=asset.pk, outcome=Outcome.FAILED, reason=error.reason)
    change = Change(asset_id=asset.pk, outcome=Outcome.PURGED, record=NO_THUMBNAIL)
    return _noted(asset, change, run_id)


def _noted(asset: ImageAsset, change: Change, run_id: int | None = None) -> Change:
    """With the asset's history, where something has changed."""
    if change.record is None:
        return change
    history = asset.history_with(change.outcome, reason=change.reason, run_id=run_id)
    return replace(change, history=history)


def write_down(changes: Sequence[Change]) -> None:
    """Put the changes into the ledger.

    A thumbnail of an asset that was deleted meanwhile, or got another original, is deleted: it is
    of nothing that the ledger knows.
    """
    for asset_id in ImageAsset.objects.write_down(changes):
        with suppress(StorageFailure):
            cache.delete(name_for(asset_id))
    for change in changes:
        if change.reason == Reason.CRASHED and change.record is not None:
            # Not before: the next picture may kill this process, and the verdict would be lost.
            record = change.record
            fingerprint = fingerprint_of(record.thumbnail_recipe, record.thumbnail_source)
            forget_deaths(_attempt(change.asset_id, fingerprint))


def _attempt(asset_id: int, fingerprint: str) -> str:
    return f"{asset_id}-{fingerprint}"


def try_out(asset: ImageAsset) -> Rendering:
    """The thumbnail that the recipe in force makes of the original as it is now, and no more.

    Nothing is replaced and nothing written down. Raises ThumbnailError.
    """
    name = str(asset.original.name)
    recipe = recipe_in_force()
    fingerprint = recipe.fingerprint(originals.source_version(name))
    with flight(asset.pk), _guarded(asset.pk, name, fingerprint), originals.opened(name) as file:
        return render(file, recipe, fingerprint=fingerprint, max_pixels=conf.current().max_pixels)


@contextmanager
def _guarded(asset_id: int, name: str, fingerprint: str) -> Iterator[None]:
    """Around the decoding of an original. Raises Crashed where that has killed too often."""
    attempt = _attempt(asset_id, fingerprint)
    if deaths(attempt) >= DEATHS_AT_MOST:
        raise Crashed(f"Rendering {name} killed or hung its process {DEATHS_AT_MOST} times.")
    with marked(attempt):
        yield


def _read_fresh(asset: ImageAsset) -> bytes | None:
    """The thumbnail from the cache, if by ledger and cache it is fresh and whole."""
    if asset.state != State.FRESH:
        return None
    try:
        content = cache.read(asset.thumbnail_path)
    except StorageFailure:
        return None  # rendering it will find out what is wrong
    # A file that was cut or emptied behind our back is as good as none.
    return content if content and len(content) == asset.thumbnail_bytes else None


def _worth_a_try(asset: ImageAsset) -> bool:
    """Whether a failed one may go better now; what has not failed always may."""
    if asset.state != State.FAILED or asset.thumbnail_error in PASSING:
        return True
    try:
        return originals.source_version(str(asset.original.name)) != asset.source_version
    except ThumbnailError:
        return True  # and then the try finds its reason


def _made_true(
    asset: ImageAsset, *, rendered_since: datetime | None = None, limit: Limit = nullcontext
) -> Change:
    """Render the thumbnail unless it is true already. The file is in place when this returns.

    The file comes first and the ledger after it: a crash between the two leaves a fresh file
    that the ledger calls stale, which the next try finds by its stamp; never the contrary.
    """
    name = str(asset.original.name)
    recipe = recipe_in_force()
    source_version = asset.source_version
    facts: Facts | None = None
    rendering: Rendering | None = None
    try:
        source_version = originals.source_version(name)
        changed = source_version != asset.source_version
        if not changed:
            if _is_fresh_on_disk(asset, rendered_since):
                return Change(asset_id=asset.pk, outcome=Outcome.FRESH)
            if (record := _found_in_cache(asset, rendered_since)) is not None:
                return Change(
                    asset_id=asset.pk, outcome=Outcome.FRESH, record=record, original=name
                )
        fingerprint = recipe.fingerprint(source_version)
        max_pixels = conf.current().max_pixels
        with _guarded(asset.pk, name, fingerprint), limit(), originals.opened(name) as file:
            if changed:
                facts = inspect(file, max_pixels=max_pixels)
                file.seek(0)
            rendering = render(file, recipe, fingerprint=fingerprint, max_pixels=max_pixels)
        cache.write(asset.thumbnail_name, rendering.content)
    except ThumbnailError as error:
        if error.reason not in PASSING:
            # What is still there shows an older picture, and now for good.
            with suppress(StorageFailure):
                cache.delete(asset.thumbnail_name)
        return Change(
            asset_id=asset.pk,
            outcome=Outcome.FAILED,
            reason=error.reason,
            record=Record(
                thumbnail_recipe=recipe.digest,
                thumbnail_source=source_version,
                thumbnail_error=error.reason.value,
                thumbnail_error_detail=str(error)[:DETAIL_LENGTH],
            ),
            facts=facts,
            source_version=source_version,
            original=name,
            unstored=rendering,
        )
    return Change(
        asset_id=asset.pk,
        outcome=Outcome.RENDERED,
        record=_record(
            asset,
            width=rendering.width,
            height=rendering.height,
            size_bytes=len(rendering.content),
            source_version=source_version,
            generated_at=timezone.now(),
        ),
        facts=facts,
        source_version=source_version,
        original=name,
    )


def _is_fresh_on_disk(asset: ImageAsset, rendered_since: datetime | None) -> bool:
    if asset.state != State.FRESH:
        return False
    made_at = asset.thumbnail_generated_at
    if rendered_since is not None and (made_at is None or made_at < rendered_since):
        return False
    return cache.size_bytes(asset.thumbnail_path) == asset.thumbnail_bytes


def _found_in_cache(asset: ImageAsset, rendered_since: datetime | None) -> Record | None:
    """The record of a file that bears the right stamp though the ledger does not know it.

    Somebody else made it a moment ago, or a crash came between the file and the ledger.
    """
    content = cache.read(asset.thumbnail_name)
    if content is None or read_stamp(io.BytesIO(content)) != asset.fingerprint:
        return None
    made_at = cache.modified_at(asset.thumbnail_name)
    if made_at is None or (rendered_since is not None and made_at < rendered_since):
        return None
    facts = inspect(io.BytesIO(content), max_pixels=conf.current().max_pixels)
    return _record(
        asset,
        width=facts.width,
        height=facts.height,
        size_bytes=len(content),
        source_version=asset.source_version,
        generated_at=made_at,
    )


def _record(
    asset: ImageAsset,
    *,
    width: int,
    height: int,
    size_bytes: int,
    source_version: str,
    generated_at: datetime,
) -> Record:
    return Record(
        thumbnail_path=asset.thumbnail_name,
        thumbnail_width=width,
        thumbnail_height=height,
        thumbnail_bytes=size_bytes,
        thumbnail_generated_at=generated_at,
        thumbnail_recipe=recipe_in_force().digest,
        thumbnail_source=source_version,
    )

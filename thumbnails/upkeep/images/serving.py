"""Serving requests: the cached thumbnail, or one that is rendered now.

A web process renders THUMBNAIL_WEB_RENDERS images at once, and THUMBNAIL_WEB_WAITING requests may
wait for that briefly, so that its other threads stay free for hits and pages.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import BinaryIO, TypeVar, cast

from django.db import connections

from thumbnails import conf
from thumbnails.exceptions import Busy, NoThumbnail, Reason, StorageFailure, TooLarge
from thumbnails.models import ImageAsset, State, clock, recipe_in_force
from thumbnails.models.recipes import is_own_in_force, own_recipe
from thumbnails.models.results import Result, save_results
from thumbnails.models.retry import retry_while_database_is_down
from thumbnails.rendering import THUMBNAIL, Difference, Facts, Rendering, Spool
from thumbnails.rendering.pool import NotDecoded, RenderPool
from thumbnails.storage import deadlines, originals
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import name_for
from thumbnails.storage.thumbnails import ThumbnailFile
from thumbnails.upkeep.images.background import refresh_soon
from thumbnails.upkeep.images.freshness import (
    delete_orphan,
    delete_unrecorded_locked,
    is_worth_a_try,
    refresh_locked,
    with_history,
)
from thumbnails.upkeep.images.logs import log_result
from thumbnails.upkeep.images.pools import web_pool

T = TypeVar("T")

REPLACED = "A newer version of the site is about to render it."
CHANGED = "Its original has changed while it was rendered."

WAIT_SECONDS = 2.0
"""How long a request waits for its turn to render."""
SLOW_SECONDS, LOOK_SECONDS = 1.0, 0.05
"""It does not wait for a render that has taken longer than SLOW_SECONDS."""
PATIENCE_SECONDS = 10.0
"""How long it waits for its own render, which goes on after that: less than a server's timeout,
30 seconds for gunicorn."""


# --- hits -------------------------------------------------------------------------------------


def stamped(
    asset_id: int, stamp: str, suffix: str = THUMBNAIL, *, is_stale: bool
) -> ThumbnailFile | None:
    """Returns the cached thumbnail, or its variant with that suffix, if the thumbnail has that
    stamp. Needs no database, raises nothing.

    `is_stale` if its address says so: it is refreshed soon.
    """
    with suppress(StorageFailure):
        found = cache.load(name_for(asset_id))
        if found is not None and found.stamp == stamp:
            if is_stale:
                refresh_soon(asset_id)
            return found if suffix == THUMBNAIL else cache.load_variant(asset_id, suffix, found)
    return None


def has_stamp(asset_id: int, stamp: str) -> bool:
    """Whether the cached thumbnail is known to have that stamp, without reading it each time."""
    return cache.has_stamp(name_for(asset_id), stamp)


def serve(asset: ImageAsset) -> ThumbnailFile:
    """Returns the asset's thumbnail, rendered now if it is missing.

    Concurrent requests render it once. A stale one is returned as it is, and refreshed soon.
    Raises NoThumbnail if the original is missing or broken, Busy if it cannot be rendered now but
    soon will be, StorageFailure if a storage failed.
    """
    found = None
    with suppress(StorageFailure):  # rendering it records the error
        found = cache.load(asset.thumbnail_name)
    if found is not None and asset.state == State.FRESH and found.stamp == asset.fingerprint:
        return found
    old = found if found is not None and asset.thumbnail_path and found.is_whole else None
    if old is not None and (asset.state == State.STALE or asset.state.is_failure):
        if asset.state == State.STALE:
            refresh_soon(asset.pk)
        return old
    try:
        return _render_missing(asset)
    except (Busy, NoThumbnail, StorageFailure):
        if old is not None:
            return old
        raise


def serve_variant(asset: ImageAsset, suffix: str) -> ThumbnailFile:
    """As `serve`, the thumbnail's variant with that suffix.

    Raises NoThumbnail if it is neither recorded nor in the recipe in force.
    """
    in_force = {variant.suffix for variant in recipe_in_force().variants}
    if suffix not in in_force and suffix not in asset.thumbnail_variants:
        raise NoThumbnail
    found = cache.load_variant(asset.pk, suffix, serve(asset))
    if found is None:  # deleted by hand, or not made with an older thumbnail
        found = cache.load_variant(asset.pk, suffix, _render_missing(asset))
    if found is None:
        raise NoThumbnail
    return found


def _render_missing(asset: ImageAsset) -> ThumbnailFile:
    if not is_worth_a_try(asset, patience_seconds=WAIT_SECONDS):
        raise NoThumbnail
    try:
        if recipe_in_force() != own_recipe():
            raise Busy(REPLACED)
        result = _render(asset.pk)
    except Busy:
        refresh_soon(asset.pk)
        raise
    if result is None:  # deleted meanwhile
        raise NoThumbnail
    if result.content is None:
        if result.reason == Reason.STORAGE_ERROR and result.failure is not None:
            raise StorageFailure(result.failure.thumbnail_error_detail)
        if result.reason is None:
            raise Busy(CHANGED)
        raise NoThumbnail
    return ThumbnailFile(
        result.content, time.time(), is_stored=result.is_stored, variants=result.variants
    )


def render_now(asset_id: int) -> Result | None:
    """Render the asset's thumbnail, even if it is fresh or crashed, and save the result.

    Returns None if the asset was deleted. Raises Busy.
    """
    if not is_own_in_force():
        raise Busy("A newer version of the site renders now; this process no longer does.")
    return _render(asset_id, force=True)


# --- rendering in a request -------------------------------------------------------------------


class RenderLimiter:
    """Limits the requests that render, and those that wait to do so; others raise Busy.

    None waits for a slow render: its thread is worth more to a hit.
    """

    def __init__(self, rendering: int, waiting: int) -> None:
        self._rendering = threading.BoundedSemaphore(rendering)
        self._waiting = threading.BoundedSemaphore(rendering + waiting)
        self._last_started_at = 0.0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it. Raises Busy. May be exited in another thread."""
        if not self._waiting.acquire(blocking=False):
            raise Busy("Too many pictures are waiting to be rendered.")
        try:
            self._wait()
            try:
                yield
            finally:
                self._rendering.release()
        finally:
            self._waiting.release()

    def _wait(self) -> None:
        give_up_at = time.monotonic() + WAIT_SECONDS
        while not self._rendering.acquire(timeout=LOOK_SECONDS):
            now = time.monotonic()
            if now > give_up_at or now - self._last_started_at > SLOW_SECONDS:
                raise Busy("Other pictures are being rendered.")
        self._last_started_at = time.monotonic()


_limiters: dict[tuple[int, int], RenderLimiter] = {}
_guard = threading.Lock()


def _limiter() -> RenderLimiter:
    settings = conf.current()
    key = (settings.web_renders, settings.web_waiting)
    with _guard:
        return _limiters.setdefault(key, RenderLimiter(*key))


def _render(asset_id: int, *, force: bool = False) -> Result | None:
    """Returns the saved result, None if the asset was deleted meanwhile. Raises Busy.

    A render that takes longer than PATIENCE_SECONDS goes on in another thread, which saves the
    result.
    """
    requested_at = clock.now() if force else None
    began_at = time.monotonic()
    with ExitStack() as held:
        held.enter_context(_limiter().slot())
        if not held.enter_context(render_lock(asset_id, patience_seconds=WAIT_SECONDS)):
            raise Busy("Another process is rendering this thumbnail.")
        asset = ImageAsset.objects.filter(pk=asset_id).first()  # as it is under the lock
        if asset is None:
            return None
        if not is_own_in_force():
            raise Busy(REPLACED)
        act = partial(refresh_locked, asset, web_pool(), rendered_since=requested_at)
        future = _begin(act)
        try:
            result = future.result(PATIENCE_SECONDS)
        except TimeoutError:
            future.add_done_callback(partial(_finish, asset, began_at, held.pop_all()))
            raise Busy("The picture takes long to render.") from None
        return _saved(asset, began_at, result)


def _begin(act: Callable[[], T]) -> "Future[T]":
    """Call `act` in a thread. Raises Busy, as does the future if the render pool is closed."""

    def in_thread() -> T:
        try:
            return act()
        except NotDecoded:
            raise Busy("The server is about to end.") from None
        finally:
            connections.close_all()

    try:
        return deadlines.begin(in_thread, place="renders")
    except TimeoutError:
        raise Busy("Too many pictures hang in their storage.") from None


def _finish(asset: ImageAsset, began_at: float, held: ExitStack, future: "Future[Result]") -> None:
    """Save a late result, in the thread that rendered it, and free the slot."""
    with held:
        try:
            if future.exception() is None:
                result = future.result()
                retry_while_database_is_down(lambda: _saved(asset, began_at, result))
        finally:
            connections.close_all()


def _saved(asset: ImageAsset, began_at: float, result: Result) -> Result:
    """Save and log the result. If it is void, its thumbnail can only be sent in this response."""
    done = with_history(asset, result)
    if save_results([done]):
        if not ImageAsset.objects.filter(pk=asset.pk).exists():
            delete_orphan(asset.pk)
        else:
            # A web server would send it under the address of what is to be made now.
            delete_unrecorded_locked(asset.pk)
            refresh_soon(asset.pk)
        return replace(done, is_stored=False)
    log_result(done, "in a request", seconds=time.monotonic() - began_at)
    return done


# --- decoding for forms and previews ----------------------------------------------------------


def preview(asset: ImageAsset, *, patience_seconds: float) -> Rendering:
    """Render the original as it is now, without storing or saving anything.

    Raises ThumbnailError and Busy.
    """
    name = str(asset.original.name)
    recipe = own_recipe()

    def act(pool: RenderPool) -> Rendering:
        with originals.read(name) as original:
            rendering, _ = pool.render(
                original.spool,
                replace(recipe, variants=()),
                name=name,
                fingerprint=recipe.fingerprint(original.version),
                max_pixels=conf.current().max_pixels,
                show_truncated=conf.current().show_truncated,
            )
        return rendering

    return _decode(act, patience_seconds=patience_seconds)


def compare(old: bytes, new: bytes) -> Difference:
    """Compare two thumbnails. Raises ThumbnailError and Busy."""
    max_pixels = conf.current().max_pixels
    return _decode(lambda pool: pool.compare(old, new, max_pixels=max_pixels))


def inspect_upload(file: BinaryIO) -> Facts:
    """Returns the facts of an uploaded image's header. Raises ThumbnailError and Busy."""

    def act(pool: RenderPool) -> Facts:
        with _spooled(file) as spool:
            return pool.inspect(spool, name="upload", max_pixels=conf.current().max_pixels)

    return _decode(act)


def render_upload(file: BinaryIO) -> Facts:
    """Returns the facts of an uploaded image, and renders it as a check: an upload that was cut
    short has an intact header. Raises ThumbnailError and Busy."""

    def act(pool: RenderPool) -> Facts:
        with _spooled(file) as spool:
            _, facts = pool.render(
                spool,
                replace(own_recipe(), variants=()),
                name="upload",
                fingerprint="",
                max_pixels=conf.current().max_pixels,
                with_facts=True,
            )
        return cast(Facts, facts)

    return _decode(act)


@contextmanager
def _spooled(file: BinaryIO) -> Iterator[Spool]:
    """Raises TooLarge for more than THUMBNAIL_MAX_BYTES."""
    max_bytes = conf.current().max_bytes
    with Spool() as spool:
        file.seek(0)
        while part := file.read(2**20):
            spool.write([part])
            if spool.size_bytes > max_bytes:
                raise TooLarge(f"The file has more than the {max_bytes:,} bytes allowed.")
        file.seek(0)
        yield spool


def _decode(act: Callable[[RenderPool], T], *, patience_seconds: float = PATIENCE_SECONDS) -> T:
    """Returns what `act` does, if it ends within that time. Raises Busy otherwise."""
    with ExitStack() as held:
        held.enter_context(_limiter().slot())
        future = _begin(partial(act, web_pool()))
        try:
            return future.result(patience_seconds)
        except TimeoutError:
            leaving = held.pop_all()
            future.add_done_callback(lambda _: leaving.close())
            raise Busy("The picture takes too long to decode.") from None

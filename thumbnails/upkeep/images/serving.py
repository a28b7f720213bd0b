"""Requests: hand out the cached thumbnail, and render at most a few at a time where there is none.

A web process renders THUMBNAIL_WEB_RENDERS pictures at once, and THUMBNAIL_WEB_WAITING requests
may wait for that, briefly: its other threads are free for hits and pages, whatever a picture does.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, TypeVar

from django.db import connections

from thumbnails import conf
from thumbnails.exceptions import Busy, NoThumbnail, Reason, StorageFailure, TooLarge
from thumbnails.models import ImageAsset, State, clock, recipe_in_force
from thumbnails.models.recipes import is_own_in_force, own_recipe
from thumbnails.models.results import Result, save_results
from thumbnails.models.retry import retry_while_database_is_down
from thumbnails.rendering import Difference, Facts, Rendering, Spool, read_stamp
from thumbnails.rendering.pool import NotDecoded, RenderPool
from thumbnails.storage import deadlines, originals
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import name_for
from thumbnails.storage.thumbnails import Cached
from thumbnails.upkeep.images.freshness import delete_orphan, is_worth_a_try, make_true, noted
from thumbnails.upkeep.images.pools import web_pool

T = TypeVar("T")

WAIT_SECONDS = 2.0
"""How long a request waits for its turn to render."""
SLOW_SECONDS, LOOK_SECONDS = 1.0, 0.05
"""Behind a picture that takes longer than that it does not wait."""
PATIENCE_SECONDS = 10.0
"""How long it then waits for the picture, which is rendered to its end all the same: less than
the time after which servers give up on a request, 30 seconds for gunicorn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A thumbnail ready to be sent."""

    content: bytes
    stamp: str | None
    """Names the bytes; None for a file without our stamp."""
    modified_at: float
    """Seconds since 1970."""
    is_stored: bool = True
    """False: the cache did not take it, so the next request renders it again."""


# --- hits -------------------------------------------------------------------------------------


def stamped(asset_id: int, stamp: str) -> Served | None:
    """The cached thumbnail if it bears that stamp. Needs no database, and raises nothing."""
    try:
        found = cache.load(name_for(asset_id))
    except StorageFailure:
        return None
    if found is None or found.stamp != stamp:
        return None
    return _served(found, stamp)


def serve(asset: ImageAsset) -> Served:
    """The asset's thumbnail, rendered now where it is missing or stale.

    Many requests for the same one render it once. Where it cannot be rendered at once, or not at
    all, the older one is served that is there. Raises NoThumbnail where there is none and the
    original is gone or broken, Busy where there is none and it cannot be rendered at once,
    StorageFailure where a storage erred.
    """
    found = _cached(asset)
    if found is not None and asset.state == State.FRESH and found.stamp == asset.fingerprint:
        return _served(found, found.stamp)
    old = _old(asset, found)
    if old is not None and (asset.state == State.FAILED or not _may_render()):
        return old
    if not is_worth_a_try(asset, patience_seconds=WAIT_SECONDS):
        raise NoThumbnail
    try:
        if not _may_render():
            raise Busy("A newer version of the site is about to render it.")
        return _render_missing(asset)
    except (Busy, NoThumbnail, StorageFailure):
        if old is not None:
            return old
        raise


def _cached(asset: ImageAsset) -> Cached | None:
    try:
        return cache.load(asset.thumbnail_name)
    except StorageFailure:  # rendering it will find out what is wrong
        return None


def _old(asset: ImageAsset, found: Cached | None) -> Served | None:
    """What is in the cache, if the database knows of a thumbnail there and the file is whole."""
    if found is None or not asset.thumbnail_path or not found.is_whole:
        return None
    return _served(found, found.stamp)


def _served(found: Cached, stamp: str | None) -> Served:
    return Served(content=found.content, stamp=stamp, modified_at=found.modified_at)


def _may_render() -> bool:
    """Whether this process makes what is in force: it may be of a version that is replaced."""
    return recipe_in_force().digest == own_recipe().digest


def _render_missing(asset: ImageAsset) -> Served:
    result = _render(asset.pk)
    if result is None:  # deleted meanwhile
        raise NoThumbnail
    if result.content is None:
        if result.reason == Reason.STORAGE_ERROR:
            raise StorageFailure(_detail(result))
        raise NoThumbnail
    return Served(
        content=result.content,
        stamp=read_stamp(result.content),
        modified_at=time.time(),
        is_stored=result.is_stored,
    )


def _detail(result: Result) -> str:
    return result.failure.thumbnail_error_detail if result.failure else ""


def render_now(asset_id: int) -> Result | None:
    """Render the asset's thumbnail anew, even if it is fresh or crashed, and save the result.

    None where there is no such asset any more. Raises Busy.
    """
    if not is_own_in_force():
        raise Busy("A newer version of the site renders now; this process no longer does.")
    return _render(asset_id, anew=True)


# --- rendering in a request -------------------------------------------------------------------


class Gate:
    """Lets so many in at once, so many wait, and turns others away.

    Behind a picture that takes long none waits: its place is worth more to a hit.
    """

    def __init__(self, inside: int, waiting: int) -> None:
        self._inside = threading.BoundedSemaphore(inside)
        self._waiting = threading.BoundedSemaphore(inside + waiting)
        self._entered_at = 0.0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Raises Busy. May be left in another thread than it was entered in."""
        if not self._waiting.acquire(blocking=False):
            raise Busy("Too many pictures are waiting to be rendered.")
        try:
            self._wait()
            try:
                yield
            finally:
                self._inside.release()
        finally:
            self._waiting.release()

    def _wait(self) -> None:
        give_up_at = time.monotonic() + WAIT_SECONDS
        while not self._inside.acquire(timeout=LOOK_SECONDS):
            now = time.monotonic()
            if now > give_up_at or now - self._entered_at > SLOW_SECONDS:
                raise Busy("Other pictures are being rendered.")
        self._entered_at = time.monotonic()


_gates: dict[tuple[int, int], Gate] = {}
_guard = threading.Lock()


def _gate() -> Gate:
    settings = conf.current()
    key = (settings.web_renders, settings.web_waiting)
    with _guard:
        return _gates.setdefault(key, Gate(*key))


def _render(asset_id: int, *, anew: bool = False) -> Result | None:
    """The saved result, or None where the asset was deleted meanwhile. Raises Busy.

    A picture that takes longer than PATIENCE_SECONDS is rendered to its end in another thread,
    which saves the result.
    """
    asked_at = clock.now() if anew else None
    with ExitStack() as held:
        held.enter_context(_gate().entered())
        if not held.enter_context(render_lock(asset_id, patience_seconds=WAIT_SECONDS)):
            raise Busy("Another process is rendering this thumbnail.")
        asset = ImageAsset.objects.filter(pk=asset_id).first()  # as it is under the lock
        if asset is None:
            return None
        if not is_own_in_force():
            raise Busy("A newer version of the site is about to render it.")
        act = partial(make_true, asset, web_pool(), rendered_since=asked_at)
        future = _begin(act)
        try:
            result = future.result(PATIENCE_SECONDS)
        except TimeoutError:
            future.add_done_callback(partial(_finish, asset, held.pop_all()))
            raise Busy("The picture takes long to render.") from None
        except NotDecoded:
            raise Busy("The server is about to end.") from None
        return _saved(asset, result)


def _begin(act: Callable[[], T]) -> "Future[T]":
    def in_thread() -> T:
        try:
            return act()
        finally:
            connections.close_all()

    try:
        return deadlines.begin(in_thread, place="renders")
    except TimeoutError:
        raise Busy("Too many pictures hang in their storage.") from None


def _finish(asset: ImageAsset, held: ExitStack, future: "Future[Result]") -> None:
    """Save what came late, in the thread that rendered it, and let others in."""
    with held:
        try:
            if future.exception() is None:
                result = future.result()
                retry_while_database_is_down(lambda: _saved(asset, result))
        finally:
            connections.close_all()


def _saved(asset: ImageAsset, result: Result) -> Result:
    """The result, saved. Where it is void, what was rendered is good for this one answer."""
    done = noted(asset, result)
    if save_results([done]):
        if not ImageAsset.objects.filter(pk=asset.pk).exists():
            delete_orphan(asset.pk)
        return replace(done, is_stored=False)
    return done


# --- decoding for forms and previews ----------------------------------------------------------


def preview(asset: ImageAsset, *, patience_seconds: float) -> Rendering:
    """The thumbnail that this process makes of the original as it is now, and no more.

    Nothing is replaced and nothing saved. Raises ThumbnailError and Busy.
    """
    name = str(asset.original.name)
    recipe = own_recipe()

    def act(pool: RenderPool) -> Rendering:
        with originals.read(name) as original:
            rendering, _ = pool.render(
                original.spool,
                recipe,
                name=name,
                fingerprint=recipe.fingerprint(original.version),
                max_pixels=conf.current().max_pixels,
            )
        return rendering

    return _decode(act, patience_seconds=patience_seconds)


def compare(old: bytes, new: bytes) -> Difference:
    """Two thumbnails held against each other. Raises ThumbnailError and Busy."""

    def act(pool: RenderPool) -> Difference:
        return pool.compare(old, new, max_pixels=conf.current().max_pixels)

    return _decode(act)


def inspect_upload(file: BinaryIO) -> Facts:
    """What the header of an uploaded picture says. Raises ThumbnailError and Busy."""

    def act(pool: RenderPool) -> Facts:
        with _spooled(file) as spool:
            return pool.inspect(spool, name="upload", max_pixels=conf.current().max_pixels)

    return _decode(act)


def render_upload(file: BinaryIO) -> Facts:
    """The facts of an uploaded picture that can be rendered: one that broke off on its way here
    has a header as good as any. Raises ThumbnailError for one that cannot, and Busy."""

    def act(pool: RenderPool) -> Facts:
        with _spooled(file) as spool:
            _, facts = pool.render(
                spool,
                own_recipe(),
                name="upload",
                fingerprint="",
                max_pixels=conf.current().max_pixels,
                with_facts=True,
            )
        if facts is None:
            raise AssertionError("they were asked for")
        return facts

    return _decode(act)


def _spooled(file: BinaryIO) -> Spool:
    """Raises TooLarge for more than THUMBNAIL_MAX_BYTES."""
    max_bytes = conf.current().max_bytes
    with ExitStack() as closing:
        spool = closing.enter_context(Spool())
        file.seek(0)
        while part := file.read(2**20):
            spool.write([part])
            if spool.size_bytes > max_bytes:
                raise TooLarge(f"The file has more than the {max_bytes:,} bytes allowed.")
        file.seek(0)
        closing.pop_all()
    return spool


def _decode(act: Callable[[RenderPool], T], *, patience_seconds: float = PATIENCE_SECONDS) -> T:
    """What `act` returns, if it comes to an end in that time. Raises Busy otherwise."""
    with ExitStack() as held:
        held.enter_context(_gate().entered())
        future = _begin(partial(act, web_pool()))
        try:
            return future.result(patience_seconds)
        except TimeoutError:
            leaving = held.pop_all()
            future.add_done_callback(lambda _: leaving.close())
            raise Busy("The picture takes too long to decode.") from None
        except NotDecoded:
            raise Busy("The server is about to end.") from None

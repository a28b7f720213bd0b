"""This process's render pools, made on first use."""

import atexit
import os
import threading

from thumbnails import conf
from thumbnails.rendering.pool import Limits, RenderPool

NICENESS = 10
"""Of processes that render for a large run: requests have priority."""


_pools: dict[tuple[int, Limits, tuple[str, ...], bytes, int], RenderPool] = {}
"""By number of processes, limits, formats, profile for CMYK and niceness."""
_guard = threading.Lock()


def new_pool(processes: int, *, nice: int = 0) -> RenderPool:
    """Returns a new pool, which the caller has to close."""
    settings = conf.current()
    return RenderPool(
        processes,
        _limits(),
        formats=settings.formats,
        cmyk_profile=settings.cmyk_profile,
        nice=nice,
    )


def web_pool() -> RenderPool:
    """Returns the shared pool for requests."""
    return _shared(conf.current().web_renders, nice=0)


def worker_pool(*, large: bool) -> RenderPool:
    """Returns the shared pool for a worker's jobs: one process, niced for large runs."""
    return _shared(1, nice=NICENESS if large else 0)


def close_all() -> None:
    """Close the shared pools; later calls make new ones."""
    with _guard:
        closing = list(_pools.values())
        _pools.clear()
    for pool in closing:
        pool.close()


def _limits() -> Limits:
    settings = conf.current()
    return Limits(seconds=settings.render_seconds, memory_bytes=settings.render_memory_bytes)


def _shared(processes: int, *, nice: int) -> RenderPool:
    settings = conf.current()
    key = (processes, _limits(), settings.formats, settings.cmyk_profile, nice)
    with _guard:
        if key not in _pools:
            _pools[key] = new_pool(processes, nice=nice)
        return _pools[key]


def _forget() -> None:
    """After a fork: the pools belong to the parent."""
    global _guard  # noqa: PLW0603
    _guard = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(close_all)

"""The render processes that belong to this process of the site, started when first needed."""

import atexit
import os
import threading
from dataclasses import dataclass

from thumbnails import conf
from thumbnails.rendering.pool import Limits, RenderPool

NICENESS = 10
"""Of processes that render for a large run: the site's own requests come first."""


@dataclass(frozen=True, slots=True)
class _Kind:
    processes: int
    limits: Limits
    nice: int


_pools: dict[_Kind, RenderPool] = {}
_guard = threading.Lock()


def new_pool(processes: int, *, nice: int = 0) -> RenderPool:
    """A pool of the caller's own, who closes it."""
    return RenderPool(processes, _limits(), nice=nice)


def web_pool() -> RenderPool:
    """For requests."""
    return _shared(_Kind(conf.current().web_renders, _limits(), nice=0))


def worker_pool(*, large: bool) -> RenderPool:
    """For a worker's jobs: one process, and a niced one for large runs."""
    return _shared(_Kind(1, _limits(), nice=NICENESS if large else 0))


def close_all() -> None:
    """End all shared render processes; those that are asked later are new ones."""
    with _guard:
        closing = list(_pools.values())
        _pools.clear()
    for pool in closing:
        pool.close()


def _limits() -> Limits:
    settings = conf.current()
    return Limits(seconds=settings.render_seconds, memory_bytes=settings.render_memory_bytes)


def _shared(kind: _Kind) -> RenderPool:
    with _guard:
        if kind not in _pools:
            _pools[kind] = RenderPool(kind.processes, kind.limits, nice=kind.nice)
        return _pools[kind]


def _forget() -> None:
    """After a fork: the processes are the parent's."""
    global _guard  # noqa: PLW0603
    _guard = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(close_all)

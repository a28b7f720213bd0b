"""This process's render pools, made on first use."""

import atexit
import os
import threading
from dataclasses import dataclass

from thumbnails import conf
from thumbnails.rendering.pool import Limits, RenderPool

NICENESS = 10
"""Of processes that render for a large run: requests have priority."""


@dataclass(frozen=True, slots=True)
class _Kind:
    processes: int
    limits: Limits
    nice: int


_pools: dict[_Kind, RenderPool] = {}
_guard = threading.Lock()


def new_pool(processes: int, *, nice: int = 0) -> RenderPool:
    """Returns a new pool, which the caller has to close."""
    return RenderPool(processes, _limits(), nice=nice)


def web_pool() -> RenderPool:
    """Returns the shared pool for requests."""
    return _shared(_Kind(conf.current().web_renders, _limits(), nice=0))


def worker_pool(*, large: bool) -> RenderPool:
    """Returns the shared pool for a worker's jobs: one process, niced for large runs."""
    return _shared(_Kind(1, _limits(), nice=NICENESS if large else 0))


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


def _shared(kind: _Kind) -> RenderPool:
    with _guard:
        if kind not in _pools:
            _pools[kind] = RenderPool(kind.processes, kind.limits, nice=kind.nice)
        return _pools[kind]


def _forget() -> None:
    """After a fork: the pools belong to the parent."""
    global _guard  # noqa: PLW0603
    _guard = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(close_all)

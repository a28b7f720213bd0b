"""A clock that is wrong by FAULTS_CLOCK_SECONDS for all that a process does, and its children.

`tests/faults/site` brings it in.
"""

from __future__ import annotations

import datetime as module
import os
import time
from typing import Any

AHEAD_SECONDS = float(os.environ.get("FAULTS_CLOCK_SECONDS", "0"))

_datetime = module.datetime
_time = time.time
_time_ns = time.time_ns


class _AlsoTheTrueOnes(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class ShiftedDatetime(_datetime, metaclass=_AlsoTheTrueOnes):
    """Django, psycopg and rq get true ones from it, of a wrong time."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return _datetime(*args, **options)

    @classmethod
    def now(cls, tz: module.tzinfo | None = None) -> Any:
        return _datetime.now(tz) + module.timedelta(seconds=AHEAD_SECONDS)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(module.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


if AHEAD_SECONDS:
    time.time = lambda: _time() + AHEAD_SECONDS
    time.time_ns = lambda: _time_ns() + int(AHEAD_SECONDS * 1e9)
    module.datetime = ShiftedDatetime  # type: ignore[misc]

"""Tries files in a process that may die of them: `python -m tests.fuzz.worker`.

Each file is written to an open file before it is tried, so that the process that started this one
knows of which it died. Lines of JSON on standard output tell how many were tried, and what is wrong
with one.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz import seeds
from tests.fuzz.examination import examine, prepare
from tests.fuzz.mutations import instructions, mutated

BATCH = 100
"""Files for each seed of chance."""


def main(arguments: Sequence[str]) -> None:
    options = prepared(arguments)
    if options.files is not None:
        trial = Trial(options)
        for path in options.files:
            trial(path.read_bytes())
        return
    for batch in range(options.batch, options.batch + options.batches):
        for format_ in options.formats:
            trial = Trial(options, format_)
            _run(trial, batch)
            trial.say_how_many()
            if time.monotonic() > options.until:
                return


def prepared(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options, once this process is like a render process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--current", type=int, required=True, help="descriptor of the open file")
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True, help="seconds for a file")
    parser.add_argument("--batch", type=int, default=0, help="its number; each has other files")
    parser.add_argument("--batches", type=int, default=sys.maxsize)
    parser.add_argument("--until", type=float, default=sys.maxsize, help="of the monotonic clock")
    parser.add_argument("--files", nargs="*", type=Path, help="to be tried instead of new ones")
    parser.add_argument("--formats", nargs="*")
    options = parser.parse_args(arguments)
    prepare(options.memory)
    _silence_libraries()
    return options


class Trial:
    """Tries files of one format, and tells of what is wrong."""

    def __init__(self, options: argparse.Namespace, format_: str = "") -> None:
        self._current: int = options.current
        self._limit_seconds: float = options.limit
        self._format = format_
        self._seeds = seeds.of(format_)
        self.tried = self._rendered = 0

    def mutated(self, told: bytes) -> None:
        """Try the file that these instructions make."""
        self(mutated(told, self._seeds, seeds.of_all()))

    def __call__(self, data: bytes) -> None:
        os.pwrite(self._current, len(data).to_bytes(4, "big") + data, 0)
        found = examine(data, seconds=self._limit_seconds)
        self.tried += 1
        self._rendered += found.is_rendered
        if found.wrong:
            _say(wrong=found.wrong, data=base64.b64encode(data).decode())

    def say_how_many(self) -> None:
        _say(format=self._format, tried=self.tried, rendered=self._rendered)
        self.tried = self._rendered = 0


def _run(trial: Trial, batch: int) -> None:
    @hypothesis.seed(batch)
    @hypothesis.settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(instructions())
    def try_one(told: bytes) -> None:
        trial.mutated(told)

    try_one()


def _silence_libraries() -> None:
    """Let only errors of this program go to standard error, not what libtiff and Pillow say."""
    logging.disable()
    sys.stderr = os.fdopen(os.dup(2), "w")
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

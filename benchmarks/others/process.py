"""A contender's process, as who measures it sees it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import IO, Any

from benchmarks.site import ROOT, NothingToMeasure


class Process:
    """A process that answers each line of JSON with another one."""

    def __init__(self, command: Sequence[object]) -> None:
        environment = {
            **{name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "VIPS_CONCURRENCY": "1",
        }
        self._command = [*map(str, command)]
        self._program = subprocess.Popen(  # noqa: S603  the project's own
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        self.greeting = self._answer()

    def ask(self, question: object) -> dict[str, Any]:
        _pipe(self._program.stdin).write(f"{json.dumps(question)}\n")
        _pipe(self._program.stdin).flush()
        return self._answer()

    def end(self) -> None:
        with self._program:  # closes its pipes, and so it ends
            pass

    def _answer(self) -> dict[str, Any]:
        line = _pipe(self._program.stdout).readline()
        if not line:
            raise NothingToMeasure(f"{' '.join(self._command)} ended.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise NothingToMeasure("A process has no pipe.")
    return pipe

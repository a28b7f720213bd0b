"""Looks for files that break inspection or rendering: `make fuzz`.

Exit status: 0 nothing was found, 1 something was, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.fuzz import seeds
from tests.processes import ROOT

FOLDER = ROOT / "var" / "fuzz"
MEMORY_BYTES = 2**30
"""The default of THUMBNAIL_RENDER_MEMORY."""
SLICE_SECONDS = 10
"""For a format before it is the next one's turn; then its process has got old, too."""
PROGRESS_SECONDS = 10
REPLAY = 'make fuzz ARGS="--replay {}"'


@dataclass
class Findings:
    """Kinds of what is wrong, each with its first file, which is saved in `folder`."""

    folder: Path
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, format_: str, wrong: str, data: bytes) -> None:
        kind = (format_, re.sub(r"\d+", "N", wrong))
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] > 1:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{format_.lower()}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        shown = os.path.relpath(path)
        say(f"{format_}: {wrong} ({len(data):,} bytes)\n  {REPLAY.format(shlex.quote(shown))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a worker tells."""

    format: str = ""
    tried: int = 0
    """Files of that format since the last event, and how many of them were `rendered`."""
    rendered: int = 0
    wrong: str = ""
    """What is wrong with the file `data`, if anything is."""
    data: bytes = b""


def work(
    arguments: Sequence[str], *, limit_seconds: float, is_guided: bool = False
) -> Iterator[Event]:
    """Have a worker try files; yields what it tells, and of which file it died."""
    module = "guided" if is_guided else "worker"
    with tempfile.TemporaryFile() as current:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"tests.fuzz.{module}"),
                *(f"--current={current.fileno()}", f"--memory={MEMORY_BYTES}"),
                *(f"--limit={limit_seconds:g}", *arguments),
            ],
            cwd=ROOT,
            pass_fds=[current.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.startswith(b"{"):
                    continue  # atheris says something
                told: dict[str, Any] = json.loads(line)
                told["data"] = base64.b64decode(told.get("data", ""))
                yield Event(**told)
            process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if process.returncode:
            death = _death(process.returncode, limit_seconds)
            yield Event(wrong=death, data=_current(current.fileno()))


def _death(status: int, limit_seconds: float) -> str:
    if status > 0:
        return f"the process ended with status {status}"
    name = signal.Signals(-status).name
    if name in {"SIGPROF", "SIGALRM"}:
        return f"it takes longer than {limit_seconds:g} s, or its header longer than 1 s"
    return f"the process died of {name}"


def _current(descriptor: int) -> bytes:
    """The file that was tried last; empty if none was."""
    size = int.from_bytes(os.pread(descriptor, 4, 0), "big")
    return os.pread(descriptor, size, 4)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    if options.replay:
        return replay(options.replay, options.limit)
    if options.atheris and find_spec("atheris") is None:
        say("atheris is not installed. Run .venv/bin/pip install atheris, or leave out --atheris.")
        return 2
    wanted = options.format or seeds.formats()
    without = [format_ for format_ in wanted if not seeds.of(format_)]
    if without:
        say(f"Not tried, since there is no picture to begin with: {', '.join(without)}.")
    tried = [format_ for format_ in wanted if format_ not in without]
    return search(tried, options) if tried else 2


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all formats (default: 5)")
    parser.add_argument(
        "--format",
        action="append",
        type=str.upper,
        choices=seeds.formats(),
        help="only this one (may be repeated)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=10,
        metavar="SECONDS",
        help="processor time that inspection and rendering may take, each (default: 10)",
    )
    parser.add_argument(
        "--atheris",
        action="store_true",
        help="have atheris choose the files by the code that they reach (default: Hypothesis)",
    )
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6, help="of chance")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where findings are saved (default: var/fuzz)"
    )
    parser.add_argument("--replay", nargs="+", type=_path, metavar="FILE", help="try these alone")
    return parser.parse_args(arguments)


def _path(name: str) -> Path:
    path = Path(name).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {name}")
    return path


def replay(paths: Sequence[Path], limit_seconds: float) -> int:
    """Try files again, each in its own process."""
    status = 0
    for path in paths:
        events = work(["--files", str(path)], limit_seconds=limit_seconds)
        found = [event.wrong for event in events if event.wrong]
        say(f"{path.name}: {'; '.join(found) or 'nothing is wrong'}")
        status = status or int(bool(found))
    return status


def search(formats: Sequence[str], options: argparse.Namespace) -> int:
    """Try new files of each format in turn until the time is over."""
    findings = Findings(options.folder)
    say(f"{', '.join(formats)}: {options.minutes:g} minutes, seed {options.seed}.")
    begun_at = told_at = time.monotonic()
    ends_at = begun_at + 60 * options.minutes
    turn_seconds = 60 * options.minutes / len(formats)
    if not options.atheris:  # which forgets what it reached
        turn_seconds = min(SLICE_SECONDS, turn_seconds)
    tried, rendered, batch = Counter[str](), Counter[str](), options.seed
    for format_ in cycle(formats):
        if time.monotonic() >= ends_at:
            break
        until = min(ends_at, time.monotonic() + turn_seconds)
        arguments = [f"--batch={batch}", f"--until={until}", "--formats", format_]
        events = work(arguments, limit_seconds=options.limit, is_guided=options.atheris)
        for event in events:
            tried[format_] += event.tried
            rendered[format_] += event.rendered
            if event.wrong:
                findings.add(format_, event.wrong, event.data)
            batch += 1  # so not the batch again in which the process died
            if time.monotonic() >= told_at + PROGRESS_SECONDS:
                told_at = time.monotonic()
                say(_progress(tried, rendered, findings, told_at - begun_at))
    say(_progress(tried, rendered, findings, time.monotonic() - begun_at))
    return int(bool(findings.kinds))


def _progress(
    tried: Counter[str], rendered: Counter[str], findings: Findings, seconds: float
) -> str:
    each = ", ".join(
        f"{name} {number:,} ({rendered[name] / number:.0%} rendered)"
        for name, number in (+tried).items()
    )
    return f"{seconds / 60:.1f} minutes: {each or 'nothing'} tried; {len(findings.kinds)} findings"


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

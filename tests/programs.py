"""Small Python programs within the site's settings, for what needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import COMMAND_SECONDS, ROOT

_START = "import sys, django\ndjango.setup()\n"


def program(text: str, *arguments: object) -> list[str]:
    """The command that runs `text` with these as `sys.argv[1:]`, to be started in ROOT."""
    return [sys.executable, "-c", _START + text, *map(str, arguments)]


def environment(thumbnail_dir: Path) -> dict[str, str]:
    return {**os.environ, "THUMBNAIL_DIR": str(thumbnail_dir)}


def output_of(thumbnail_dir: Path, text: str, *arguments: object) -> str:
    """What the program says, run to its end, which has to be a good one."""
    return subprocess.run(
        program(text, *arguments),
        cwd=ROOT,
        env=environment(thumbnail_dir),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=True,
    ).stdout

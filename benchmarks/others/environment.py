"""Where the other libraries are installed, by the first comparison."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.site import ROOT, NothingToMeasure

HOME = ROOT / ".venv-bench"
REQUIREMENTS = ROOT / "requirements-bench.txt"
SHARP = "sharp@0.35.5"


def python() -> Path:
    """Returns the Python that has them. Raises NothingToMeasure if they cannot be installed."""
    path, installed = HOME / "bin" / "python", HOME / REQUIREMENTS.name
    pins = REQUIREMENTS.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != pins:
        _uv("venv", "--clear", "--python", sys.executable, HOME)
        _uv("pip", "install", "--python", path, "--require-hashes", "--requirement", REQUIREMENTS)
        installed.write_text(pins, encoding="utf-8")
    return path


def node_modules() -> Path | None:
    """Returns the folder with sharp; None where there is no npm to install it."""
    folder = HOME / "node"
    npm = shutil.which("npm")
    if npm is None:
        return None
    installed = folder / SHARP
    if not installed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(npm, "install", "--prefix", folder, "--no-save", "--no-package-lock", SHARP)
        installed.touch()
    return folder / "node_modules"


def _uv(*arguments: object) -> None:
    _run(sys.executable, "-m", "uv", "--quiet", "--system-certs", *arguments)


def _run(*command: object) -> None:
    done = subprocess.run(  # noqa: S603  installers
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NothingToMeasure(f"The other libraries were not installed:\n{done.stderr[-2000:]}")

"""Tests on the newest Django and Python that the app is for: `make compat`.

They are those that depend on Django: models, selections, the admin, the API, commands. All is
installed in an environment of its own. Arguments are pytest's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.processes import ROOT

DJANGO = "django~=6.0.0"
PYTHONS = ("3.13", "3.12")
"""The newest first."""
HOME = ROOT / ".venv-compat"
TOOLS = (
    *("boto3", "django-storages", "djangorestframework", "hypothesis", "jinja2", "numpy", "psutil"),
    *("pytest", "pytest-django"),
)
MODULES = (
    *("admin", "alike", "api_tokens", "asset_page", "assets", "checks", "commands", "conf"),
    *("counts", "csv_import", "markup", "migrations", "overview", "plans", "queue_pages"),
    *("recipes", "rest_framework", "run_page", "runs", "selection", "tracking", "urls"),
)
PYTEST = [
    *("-m", "pytest", "--database=sqlite", "-m", "not browser and not processes"),
    # Its notes would pass for those of the other environment.
    *("-p", "no:cacheprovider"),
    *(f"tests/test_{name}.py" for name in MODULES),
]


def main(arguments: list[str]) -> int:
    """Returns pytest's exit status, or uv's; 0, with a sentence, where there is no such Python."""
    python = find_python()
    if python is None:
        sys.stdout.write(
            f"No Python {' or '.join(PYTHONS)} in PATH or among pyenv's: nothing was tested.\n"
        )
        return 0
    sys.stdout.write(f"On {python} with {DJANGO}:\n")
    sys.stdout.flush()
    try:
        install(python)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    tests = [str(HOME / "bin" / "python"), *PYTEST, *arguments]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode


def find_python() -> Path | None:
    """Returns the newest one that runs. pyenv's command for a version that is not chosen fails."""
    return next((path for path in _candidates() if _runs(path)), None)


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in PYTHONS:
        if found := shutil.which(f"python{version}"):
            yield Path(found)
        yield from pyenv.glob(f"versions/{version}.*/bin/python{version}")


def _runs(python: Path) -> bool:
    return subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0


def install(python: Path) -> None:
    """Create a new environment, with the pinned versions of all but Django."""
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        others, django = Path(folder, "others.txt"), Path(folder, "django.txt")
        others.write_text(re.sub(r"^django==.*\n( .*\n)*", "", pins, flags=re.MULTILINE))
        django.write_text(DJANGO)
        _uv("venv", "--clear", "--python", python, HOME)
        _uv(
            *("pip", "install", "--python", HOME / "bin" / "python"),
            *("--requirement", ROOT / "requirements.in", "--constraint", others),
            *("--override", django, *TOOLS),
        )


def _uv(*arguments: object) -> None:
    command = [sys.executable, "-m", "uv", "--quiet", "--system-certs", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The Makefile, as far as it can be tried without installing everything once more."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT

TARGETS = [
    "help",
    "install",
    "run",
    "test",
    "compat",
    "check",
    "audit",
    "fuzz",
    "lock",
    "bench",
    "screenshots",
    "thumbnails-regenerate",
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Not as a part of the make that runs the tests.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", *arguments],  # noqa: S607  whichever make there is
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help__is_the_default_and_lists_all(checkout: Path) -> None:
    listed = make(checkout).stdout
    assert [line.split()[1] for line in listed.splitlines()] == TARGETS
    assert make(checkout, "help").stdout == listed


def test_install__asks_for_a_newer_python(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.6; fi\nexit 1\n')
    old.chmod(0o755)
    refused = make(checkout, "install", f"PYTHON={old}")
    assert refused.returncode != 0
    assert f"Python 3.11 or newer is needed, but {old} is: Python 3.9.6." in refused.stderr
    assert "make install PYTHON=python3.12" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_install__refuses_a_package_without_a_hash(checkout: Path) -> None:
    (checkout / "requirements-dev.txt").write_text("./package-1.0-py3-none-any.whl\n")
    with zipfile.ZipFile(checkout / "package-1.0-py3-none-any.whl", "w") as wheel:
        about = "Metadata-Version: 2.1\nName: package\nVersion: 1.0\n"
        wheel.writestr("package-1.0.dist-info/METADATA", about)
        wheel.writestr("package-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("package-1.0.dist-info/RECORD", "")
    refused = make(checkout, "install", f"PYTHON={sys.executable}")
    assert refused.returncode != 0
    assert "Hashes are required in --require-hashes mode" in refused.stderr
    assert not (checkout / ".venv" / ".installed").exists()


PYTHON = """#!/bin/sh
# Stands in for Python, and notes in the environment what is done there.
case "$*" in
    "-m venv --clear .venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"-m pip install"*"-r $REFUSED") exit 1 ;;
    *"-m pip install"*) echo "install ${*##*-r }" >> .venv/done ;;
    *-m*) echo "${*##*-m }" >> .venv/done ;;
esac
"""
SITE, ALL = "install requirements.txt", "install requirements-dev.txt"
RUN = "thumbsite.demo.setup"


@pytest.fixture
def python(checkout: Path) -> Path:
    path = checkout / "python"
    path.write_text(PYTHON)
    path.chmod(0o755)
    return path


def done_by(checkout: Path, *targets: str, refused: str = "none") -> list[str]:
    """What was done since the environment was created, after making each of these targets."""
    for target in targets:
        made = make(checkout, target, f"PYTHON={checkout / 'python'}", f"REFUSED={refused}")
        assert (made.returncode == 0) == (refused == "none"), made.stderr
    return (checkout / ".venv" / "done").read_text().splitlines()


def test_run__installs_what_it_needs_and_says_so(checkout: Path, python: Path) -> None:
    said = make(checkout, "run", f"PYTHON={python}", "REFUSED=none").stdout
    assert "Installing what requirements.txt names" in said
    assert done_by(checkout, "run") == [SITE, RUN, RUN]
    assert done_by(checkout, "audit", "run") == [SITE, RUN, RUN, ALL, "tests.package_audit", RUN]


def test_install__that_was_interrupted_is_begun_anew(checkout: Path, python: Path) -> None:
    done_by(checkout, "run")
    assert done_by(checkout, "install", refused="requirements-dev.txt") == [SITE, RUN]
    assert done_by(checkout, "run") == [SITE, RUN]  # in a new environment
    assert done_by(checkout, "install", "install") == [SITE, RUN, ALL]


def test_install__is_done_again_when_requirements_change(checkout: Path, python: Path) -> None:
    done_by(checkout, "install")
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(checkout / "requirements.txt", (later, later))
    # All of it, since tests are installed.
    assert done_by(checkout, "run") == [ALL, ALL, RUN]

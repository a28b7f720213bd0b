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


def test_install__is_done_once_until_requirements_change(checkout: Path) -> None:
    assert make(checkout, "--question", "install").returncode == 1
    installed = checkout / ".venv" / ".installed"
    installed.parent.mkdir()
    installed.touch()
    assert make(checkout, "--question", "install").returncode == 0
    later = installed.stat().st_mtime + 1
    os.utime(checkout / "requirements.txt", (later, later))
    assert make(checkout, "--question", "install").returncode == 1

"""`make compat`: which Python it takes, and that it ends well without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import compat
from tests.processes import ROOT

MakePython = Callable[..., Path]


@pytest.fixture
def make_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePython:
    """Put a command into a folder; there are no others."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))

    def make(path: str, *, status: int = 0) -> Path:
        command = tmp_path / path
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f"#!/bin/sh\nexit {status}\n", encoding="utf-8")
        command.chmod(0o755)
        return command

    return make


def test_python__is_the_newest_that_runs(make_python: MakePython) -> None:
    older = make_python("bin/python3.12")
    make_python("bin/python3.13", status=127)  # pyenv's, for a version that is not chosen
    assert compat.find_python() == older
    newer = make_python("pyenv/versions/3.13.0/bin/python3.13")
    assert compat.find_python() == newer


def test_python__without_one_nothing_is_tested(
    make_python: MakePython, capsys: pytest.CaptureFixture[str]
) -> None:
    make_python("bin/python3.11")
    assert compat.main([]) == 0
    assert capsys.readouterr().out == (
        "No Python 3.13 or 3.12 in PATH or among pyenv's: nothing was tested.\n"
    )


def test_modules__there_are_all() -> None:
    assert [name for name in compat.MODULES if not (ROOT / f"tests/test_{name}.py").exists()] == []

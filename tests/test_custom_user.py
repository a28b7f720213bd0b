"""The app in a project with another user model than Django's."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import ROOT


def test_users__known_by_email() -> None:
    """A user model is chosen once in a process, so that another one has a process of its own."""
    settings = "--ds=tests.emails.settings"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--database=sqlite",
            settings,
            "tests/emails/walk.py",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]

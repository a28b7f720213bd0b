"""What the site refuses, warns of and sends with the settings of a production site."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.processes import run_command

STRONG = "0123456789" * 5
"""The shortest key that is accepted."""
PRODUCTION = {
    "SECRET_KEY": STRONG,
    "ALLOWED_HOSTS": "example.org",
    "HTTPS": "on",
    "DATABASE_URL": "sqlite://:memory:",
    "DJANGO_ALLOW_ASYNC_UNSAFE": "",  # the tests' own
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command(arguments, {**os.environ, **PRODUCTION, **environment})


# --- The secret key -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("x", id="one-character"),
        pytest.param(STRONG[:-1], id="49-characters"),
        pytest.param("abcd" * 20, id="4-different-characters"),
        pytest.param(f"django-insecure-{STRONG}", id="made-by-startproject"),
    ],
)
def test_secret_key__weak_is_refused_at_the_start(key: str) -> None:
    refused = manage("check", SECRET_KEY=key)
    assert refused.returncode == 2
    assert refused.stderr.startswith("SECRET_KEY is too weak: ")
    assert "secrets.token_urlsafe" in refused.stderr
    assert key == "x" or key not in refused.stderr


def test_secret_key__weak_is_enough_for_debug() -> None:
    done = manage("check", SECRET_KEY="x", DEBUG="on")
    assert done.returncode == 0, done.stderr

"""What the site refuses, warns of and sends with the settings of a production site."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.processes import ROOT, run_command

STRONG = "0123456789" * 5
"""The shortest key that is accepted."""
PRODUCTION = {
    "SECRET_KEY": STRONG,
    "ALLOWED_HOSTS": "example.org",
    "HTTPS": "on",
    "HSTS_PRELOAD": "",
    "HSTS_SUBDOMAINS": "",
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


# --- HSTS -----------------------------------------------------------------------------------------

SHOW_HSTS = """
import django
django.setup()
from django.test import Client
print(Client(headers={"Host": "example.org"}).get("/api/v1/healthz", secure=True).headers.get(
    "Strict-Transport-Security"))
"""


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({}, "max-age=31536000"),
        ({"HSTS_SUBDOMAINS": "on"}, "max-age=31536000; includeSubDomains"),
        (
            {"HSTS_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"},
            "max-age=31536000; includeSubDomains; preload",
        ),
        ({"HTTPS": "off", "HSTS_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"}, "None"),
    ],
    ids=["default", "subdomains", "preload", "no-https"],
)
def test_hsts__promises_no_more_than_is_asked_for(environment: dict[str, str], header: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_HSTS],
        cwd=ROOT,
        env={**os.environ, **PRODUCTION, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == header, done.stderr

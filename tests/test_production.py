"""What the site refuses, warns of and sends with the settings of a production site."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from pytest_django import Settings

from tests.processes import ROOT, run_command
from thumbsite import environment

STRONG = "0123456789" * 5
"""The shortest key that is accepted."""
PRODUCTION = {
    "SECRET_KEY": STRONG,
    "ALLOWED_HOSTS": "example.org",
    "HTTPS": "on",
    "PROXIES": "1",
    "HSTS_PRELOAD": "",
    "HSTS_SUBDOMAINS": "",
    "DATABASE_URL": "sqlite://:memory:",
    "DJANGO_ALLOW_ASYNC_UNSAFE": "",  # the tests' own
}


def manage(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_command(arguments, {**os.environ, **PRODUCTION, **settings})


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
def test_secret_key__weak_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", key)
    with pytest.raises(ImproperlyConfigured, match=r"^SECRET_KEY is too weak: ") as refused:
        environment.secret_key("SECRET_KEY", may_be_weak=False)
    assert "secrets.token_urlsafe" in str(refused.value)
    assert key == "x" or key not in str(refused.value)


def test_secret_key__weak_is_refused_at_the_start_but_for_debug() -> None:
    refused = manage("check", SECRET_KEY="x")
    assert refused.returncode == 2
    assert refused.stderr.startswith("SECRET_KEY is too weak: ")
    done = manage("check", SECRET_KEY="x", DEBUG="on")
    assert done.returncode == 0, done.stderr


# --- The start ------------------------------------------------------------------------------------


def test_commands__import_neither_pages_nor_api() -> None:
    program = (
        "import sys, django; django.setup(); "
        "from thumbnails.management.commands import regenerate_thumbnails; "
        "print(*{'ninja', 'pydantic', 'thumbnails.admin', 'thumbsite.urls'} & set(sys.modules))"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "thumbsite.settings"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env={**os.environ, **PRODUCTION, **settings}, capture_output=True, check=True
    )
    assert done.stdout == b"\n"


# --- Proxies --------------------------------------------------------------------------------------


def test_deploy_check__passes_with_the_documented_settings() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr


def test_deploy_check__warns_of_a_proxy_that_is_not_counted() -> None:
    warned = manage("check", "--deploy", "--fail-level", "WARNING", PROXIES="0")
    assert warned.returncode == 1
    assert "(thumbsite.W001) HTTPS is on and PROXIES is 0." in warned.stderr
    assert "1 issue" in warned.stderr
    on_a_machine_of_your_own = manage("check", "--deploy", PROXIES="0", HTTPS="off")
    assert "thumbsite.W001" not in on_a_machine_of_your_own.stderr


def test_proxies__less_than_none_stop_the_start() -> None:
    refused = manage("check", PROXIES="-1")
    assert refused.returncode == 2
    assert "PROXIES must be" in refused.stderr


@pytest.mark.parametrize(("proxies", "warnings"), [(0, 1), (1, 0)])
def test_forwarded_for__is_logged_once_if_no_proxy_is_counted(
    proxies: int, warnings: int, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.NINJA_NUM_PROXIES = proxies
    client = Client()

    def request(**headers: str) -> list[logging.LogRecord]:
        client.get("/api/v1/healthz", headers=headers)
        return [record for record in caplog.records if record.name == "thumbsite.middleware"]

    assert request() == []
    for number in range(3):
        request(**{"X-Forwarded-For": f"192.0.2.{number}"})
    records = request()
    assert [record.levelno for record in records] == [logging.WARNING] * warnings
    assert all("set PROXIES" in record.getMessage() for record in records)
    assert "192.0.2." not in caplog.text


# --- HSTS -----------------------------------------------------------------------------------------

SHOW_HSTS = """
import django
django.setup()
from django.test import Client
print(Client(headers={"Host": "example.org"}).get("/api/v1/healthz", secure=True).headers.get(
    "Strict-Transport-Security"))
"""


@pytest.mark.parametrize(
    ("variables", "header"),
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
def test_hsts__promises_no_more_than_is_asked_for(variables: dict[str, str], header: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_HSTS],
        cwd=ROOT,
        env={**os.environ, **PRODUCTION, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == header, done.stderr

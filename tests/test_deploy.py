"""The files of `deploy/`, as far as they can be checked without systemd and without Docker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.processes import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SITE = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "thumbsite"}
ROW = re.compile(r"^\| `([A-Z_]+)` \|", re.MULTILINE)
SETTINGS = {*ROW.findall((ROOT / "docs" / "settings.md").read_text(encoding="utf-8"))}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


# --- Both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "files"),
    [
        (
            "/var/cache/thumbsite/thumbnails",
            ["nginx.conf", "thumbsite.env", "Dockerfile"],
        ),
        (
            "/run/thumbsite/web.sock",
            ["nginx.conf", "systemd/thumbsite-web.socket", "Dockerfile", "compose.yaml"],
        ),
    ],
)
def test_paths__agree(path: str, files: list[str]) -> None:
    assert [name for name in files if path not in text_of(name)] == []


def test_settings__that_are_given_exist() -> None:
    in_env = set(re.findall(r"^([A-Z_]+)=", text_of("thumbsite.env"), re.MULTILINE))
    given = in_env.union(*(service["environment"] for service in SITE.values()))
    assert in_env >= {"SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL", "PROXIES"}
    assert given - SETTINGS == set()


def test_commands__that_are_named_exist() -> None:
    files = [*DEPLOY.glob("systemd/*.service"), DEPLOY / "Dockerfile"]
    named = re.findall(r"manage\.py (\w+)", "".join(path.read_text() for path in files))
    named += [service["command"][2] for service in SITE.values() if "command" in service]
    assert {"rqworker", "audit_thumbnails", "migrate", "collectstatic"} <= {*named}
    assert {*named} <= {*get_commands()}


# --- systemd --------------------------------------------------------------------------------------


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze")
def test_units__are_accepted_by_systemd(tmp_path: Path) -> None:
    """With the programs of this checkout; it warns of every word that it does not know."""
    units = shutil.copytree(DEPLOY / "systemd", tmp_path / "units")
    for path in units.rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text().replace("/srv/thumbsite", str(ROOT)))
    names = [path.name.replace("@.", "@1.") for path in units.glob("thumbsite-*.*[!d]")]
    assert len(names) == 5
    done = subprocess.run(
        [str(ANALYZE), "verify", *names],
        env={"SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# --- Docker ---------------------------------------------------------------------------------------


def test_image__copies_what_there_is_and_what_is_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", text_of("Dockerfile"), re.MULTILINE)
    lines = text_of("Dockerfile.dockerignore").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", [*SITE, "nginx"])
def test_service__cannot_write_to_its_image_and_has_no_rights(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    users = re.findall(r"^USER (\d+):\d+$", text_of("Dockerfile"), re.MULTILINE)
    assert (service.get("user") or users[-1]).partition(":")[0] not in ("", "0")


def test_services__share_what_is_declared() -> None:
    used = {
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", [])
    }
    files = {volume for volume in used if volume.startswith((".", "$"))}
    assert used - files == {*COMPOSE["volumes"]}
    assert all((DEPLOY / path).exists() for path in files if path.startswith("."))
    networks = {name for each in COMPOSE["services"].values() for name in each["networks"]}
    assert networks == {*COMPOSE["networks"]}
    published = [name for name, each in COMPOSE["services"].items() if "ports" in each]
    assert published == ["nginx"]


class OnSocket(UnixStreamServer):
    """In the site's place: answers with that status."""

    def __init__(self, path: Path, status: HTTPStatus) -> None:
        self.status = status
        super().__init__(str(path), Answering)


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, OnSocket)
        is_asked = (self.path, self.headers["Host"]) == ("/api/v1/healthz", "images.example.org")
        self.send_response(server.status if is_asked else HTTPStatus.BAD_REQUEST)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "ends_with"), [(HTTPStatus.OK, 0), (HTTPStatus.SERVICE_UNAVAILABLE, 1)]
)
def test_health_check__asks_over_the_socket(status: HTTPStatus, ends_with: int) -> None:
    program = COMPOSE["services"]["web"]["healthcheck"]["test"][-1]
    with tempfile.TemporaryDirectory(prefix="health-") as folder:
        path = Path(folder) / "socket"
        assert "/run/thumbsite/web.sock" in program
        with OnSocket(path, status) as site:
            answering = threading.Thread(target=site.handle_request)
            answering.start()
            done = subprocess.run(
                [sys.executable, "-c", program.replace("/run/thumbsite/web.sock", str(path))],
                env={"ALLOWED_HOSTS": "images.example.org,localhost"},
                check=False,
            )
            answering.join()
    assert done.returncode == ends_with

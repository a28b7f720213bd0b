"""A real nginx with the configuration of `deploy/`, on loopback and in a home of its own."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

from tests.faults.web import ANSWER_SECONDS, Answer
from tests.processes import ROOT
from tests.servers import Server

CONFIGURATION = ROOT / "deploy" / "nginx.conf"
HOST = "images.example.org"
"""As the configuration names it."""
USER = "nobody"
"""Of the workers, where root runs the tests: not the one who writes the cache."""
LOOPBACK = "127.0.0.1"

MAIN = """
{user}
worker_processes 1;
pcre_jit on;
pid pid;
error_log log;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {site}
    {more}
}}
"""


def missing() -> str:
    """What the machine lacks to run it, as the reason of a skip; nothing where it can."""
    lacking = [program for program in ("nginx", "openssl") if _program(program) is None]
    return f"there is no {' and no '.join(lacking)}" if lacking else ""


class NginxServer(Server):
    """nginx in front of what listens at a port of loopback, with the cache in that folder.

    The configuration is the one of `deploy/` with other addresses and paths. `more` is put beside
    its servers; in it `LISTEN` stands for the address of the site over TLS.
    """

    name = "nginx"

    def __init__(self, cache: Path, site_port: int, *, more: str = "") -> None:
        super().__init__()
        self.home.chmod(0o755)  # its workers must get through
        self.port, self.plain_port = _free_port(), _free_port()
        _make_certificate(self.home)
        listen = f"{LOOPBACK}:{self.port} ssl"
        site = _replaced(
            CONFIGURATION.read_text(encoding="utf-8"),
            {
                "listen 80": f"listen {LOOPBACK}:{self.plain_port}",
                "listen 443 ssl": f"listen {listen}",
                "unix:/run/thumbsite/web.sock": f"{LOOPBACK}:{site_port}",
                "/etc/ssl/thumbsite": str(self.home),
                "/var/cache/thumbsite/thumbnails": str(cache),
            },
        )
        more = more.replace("LISTEN", listen)
        (self.home / "nginx.conf").write_text(MAIN.format(user=_user_line(), site=site, more=more))

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask it for that as it is spelled, over a connection of its own."""
        with closing(self.connection()) as connection:
            return ask(connection, method, path, body, **headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, **headers)

    def connection(self) -> HTTPSConnection:
        return HTTPSConnection(
            LOOPBACK, self.port, timeout=ANSWER_SECONDS, context=_any_certificate()
        )

    def _command(self) -> list[str | Path]:
        program = _program("nginx")
        assert program is not None
        return [program, "-p", self.home, "-c", self.home / "nginx.conf", "-g", "daemon off;"]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0


def ask(
    connection: HTTPSConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    """One request over this connection; in names of headers `_` stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {"Host": HOST, **named})
    response = connection.getresponse()
    received = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, received, response.read())


def _program(name: str) -> str | None:
    # Debian's /usr/sbin is not in everybody's PATH.
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def _replaced(text: str, replacements: dict[str, str]) -> str:
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def _user_line() -> str:
    if os.geteuid() != 0:
        return ""
    group = grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name
    return f"user {USER} {group};"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        port = found.getsockname()[1]
    assert isinstance(port, int)
    return port


def _make_certificate(home: Path) -> None:
    subprocess.run(
        [
            *(_program("openssl") or "openssl", "req", "-x509", "-nodes", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={HOST}"),
            *("-keyout", home / "privkey.pem", "-out", home / "fullchain.pem"),
        ],
        check=True,
        capture_output=True,
    )


@functools.cache
def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""A real nginx in front of the site, with the configuration of `deploy/`."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset, RunCommand
from tests.faults.web import Answer, WebServer
from tests.nginx import CONFIGURATION, HOST, LOOPBACK, NginxServer, ask, missing
from tests.test_headers import HEADERS
from thumbnails.models import ImageAsset
from thumbnails.rendering import SUFFIX, read_stamp
from thumbnails.storage.thumbnails import ThumbnailStorage

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

NAME = "82/12345.jpg"
PATH = f"/thumbnails/{NAME}"
V = "v=0123456789abcdef"
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATED = "public, no-cache"
CONTENT = bytes(range(256)) * 20
MEBIBYTE = 2**20


class StandIn(BaseHTTPRequestHandler):
    """In the site's place: answers everything with what it was asked for, as nginx passed it on."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        self.send_response(HTTPStatus.OK)
        self.send_header("X-Asked", f"{self.command} {self.path}")
        for name in ("Host", "X-Forwarded-For", "X-Forwarded-Proto"):
            self.send_header(f"X-Got-{name}", self.headers.get(name, ""))
        self.send_header("X-Got-Bytes", str(length))
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Readable for nginx's user, as pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="nginx-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def nginx(home: Path) -> Iterator[NginxServer]:
    """In front of a stand-in for the site, with some files in the cache."""
    folder = home / "cache"
    for name in (NAME, "82/12345@2x.webp", "82/12345-large.jpg", "82/12345-large@2x.avif"):
        write(folder / name)
    for name in ("82/.12345.jpg.0123456789abcdef.tmp", ".locks/renders", "82/12345.txt", "a.jpg"):
        write(folder / name)
    with ThreadingHTTPServer((LOOPBACK, 0), StandIn) as site:
        thread = threading.Thread(target=site.serve_forever, args=[0.02])
        thread.start()
        try:
            with NginxServer(folder, site.server_port) as server:
                yield server
        finally:
            site.shutdown()
            thread.join()


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)


# --- What is sent from disk -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        (NAME, "image/jpeg"),
        ("82/12345@2x.webp", "image/webp"),
        ("82/12345-large.jpg", "image/jpeg"),
        ("82/12345-large@2x.avif", "image/avif"),
    ],
)
def test_hit__is_what_is_named_whatever_is_accepted(
    nginx: NginxServer, name: str, content_type: str
) -> None:
    answer = nginx.get(f"/thumbnails/{name}?{V}", Accept="image/avif,image/webp;q=0.5")
    assert (answer.status, answer.body) == (HTTPStatus.OK, CONTENT)
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == IMMUTABLE
    assert "vary" not in answer.headers


def test_names__are_those_of_variants() -> None:
    assert CONFIGURATION.read_text().count(f"/[1-9][0-9]{{0,17}}{SUFFIX}") == 2


@pytest.mark.parametrize(
    "query",
    [
        *("", "?", "?v=", "?v=x", "?v=0123456789ABCDEF", f"?{V}0", f"?{V}&{V}", f"?{V}&a=1"),
        *(
            "?v=%00",
            "?v=%ff",
            "?v=../../x",
            f"?{V}%20",
            "?v=" + "f" * 7000,
            "?stales=1",
            "?a=stale",
        ),
    ],
)
def test_hit__without_a_fingerprint_is_asked_about_each_time(
    nginx: NginxServer, query: str
) -> None:
    answer = nginx.get(PATH + query)
    assert (answer.status, answer.body) == (HTTPStatus.OK, CONTENT)
    assert answer.headers["cache-control"] == REVALIDATED


def test_hit__head_range_and_conditions(nginx: NginxServer) -> None:
    address = f"{PATH}?{V}"
    whole = nginx.get(address)
    head = nginx.request("HEAD", address)
    assert (head.status, head.body) == (HTTPStatus.OK, b"")
    assert undated(head) == undated(whole)

    part = nginx.get(address, Range="bytes=10-19")
    assert (part.status, part.body) == (HTTPStatus.PARTIAL_CONTENT, CONTENT[10:20])
    assert part.headers["cache-control"] == REVALIDATED
    past = nginx.get(address, Range=f"bytes={len(CONTENT)}-")
    assert past.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert past.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert past.headers["cache-control"] == REVALIDATED  # no cache keeps this for a year
    assert HEADERS.items() <= by_name(past).items()

    etag = whole.headers["etag"]
    for value in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        known = nginx.get(address, If_None_Match=value)
        assert (known.status, known.body) == (HTTPStatus.NOT_MODIFIED, b"")
        assert known.headers["cache-control"] == IMMUTABLE
    assert nginx.get(address, If_None_Match='"another"').body == CONTENT
    since = nginx.get(PATH, If_Modified_Since=whole.headers["last-modified"])
    assert since.status == HTTPStatus.NOT_MODIFIED


def undated(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


def by_name(answer: Answer) -> dict[str, str]:
    """Those of the headers that the site's responses carry."""
    return {name: answer.headers.get(name.lower(), "") for name in HEADERS}


def test_hit__is_whole_while_it_is_replaced(nginx: NginxServer, home: Path) -> None:
    """Readers keep asking until the file has been replaced many times."""
    store = ThumbnailStorage(location=home / "cache", file_permissions_mode=0o644)
    versions = [pictures.jpeg(pictures.photo(side, side)) for side in (40, 160)]
    name, ended = "d4/7.jpg", threading.Event()
    replace(store, name, versions[0])

    def read() -> set[bytes]:
        found = set()
        with closing(nginx.connection()) as connection:
            while not ended.is_set():
                answer = ask(connection, "GET", f"/thumbnails/{name}?{V}")
                assert answer.status == HTTPStatus.OK
                found.add(answer.body)
        return found

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        try:
            for number in range(100):
                replace(store, name, versions[number % 2])
        finally:
            ended.set()
        assert set.union(*(reader.result() for reader in readers)) <= set(versions)
    assert nginx.get(f"/thumbnails/{name}").body == versions[1]


def replace(store: ThumbnailStorage, name: str, content: bytes) -> None:
    store.save(name, ContentFile(content))


# --- What the site is asked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *(f"{PATH}?{V}&stale=1", f"{PATH}?stale=1&{V}", f"{PATH}?stale", f"{PATH}?a=1&stale=&b=2"),
        *("/thumbnails/82/54321.jpg", "/thumbnails/00/12345.jpg", "/thumbnails/82/12345@2x.jpg"),
        *("/thumbnails", "/thumbnails/", "/thumbnails/82", "/thumbnails/82/", f"{PATH}/"),
        *("/thumbnails/.locks/renders", "/thumbnails/.locks/", "/thumbnails/a.jpg"),
        *("/thumbnails/82/.12345.jpg.0123456789abcdef.tmp", "/thumbnails/82/12345.txt"),
        *("/thumbnails//82/12345.jpg", "/thumbnails/82/12345%2ejpg"),
        *("/thumbnails/82/../82/12345.jpg", "/thumbnails/%2e%2e/thumbnails/82/12345.jpg"),
        *("/thumbnails/./82/12345.jpg", "/thumbnails/../etc/passwd", "/thumbnails/%2e%2e/a.jpg"),
        *("/thumbnails/82\\12345.jpg", "/thumbnails/82%5c12345.jpg", "/thumbnails/82%2f12345.jpg"),
        *("/thumbnails/82/012345.jpg", "/thumbnails/82/9999999999999999999.jpg", "/static/a.css"),
        *("/thumbnails/82/12345@1x.jpg", "/thumbnails/82/12345.JPG", f"{PATH}.tmp", f"{PATH}%20"),
        *("/thumbnails/82/%0a12345.jpg", "/admin/", "/"),
    ],
)
def test_site__answers_what_is_not_a_hit_as_it_is_spelled(nginx: NginxServer, path: str) -> None:
    answer = nginx.get(path)
    assert answer.headers["x-asked"] == f"GET {path}"
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_site__answers_other_methods(nginx: NginxServer, method: str) -> None:
    answer = nginx.request(method, f"{PATH}?{V}", b"body")
    assert answer.headers["x-asked"] == f"{method} {PATH}?{V}"
    assert answer.headers["x-got-bytes"] == "4"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/thumbnails/82/12345.jpg%00", HTTPStatus.BAD_REQUEST),
        ("/thumbnails/../../etc/passwd", HTTPStatus.BAD_REQUEST),
        ("/thumbnails/%2e%2e/%2e%2e/etc/passwd", HTTPStatus.BAD_REQUEST),
        (f"{PATH}?v=" + "f" * 9000, HTTPStatus.REQUEST_URI_TOO_LONG),
    ],
)
def test_nginx__refuses_what_is_no_path(nginx: NginxServer, path: str, status: HTTPStatus) -> None:
    assert nginx.get(path).status == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run nginx as another user")
def test_site__is_asked_where_nginx_may_not_read(nginx: NginxServer, home: Path) -> None:
    path = home / "cache" / "82" / "777.jpg"
    write(path)
    path.chmod(0o600)
    assert nginx.get(f"/thumbnails/82/777.jpg?{V}").headers["x-asked"].endswith(f"777.jpg?{V}")


def test_site__is_told_who_asks(nginx: NginxServer) -> None:
    answer = nginx.get("/", X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="http")
    assert answer.headers["x-got-host"] == HOST
    assert answer.headers["x-got-x-forwarded-for"] == f"192.0.2.1, {LOOPBACK}"
    assert answer.headers["x-got-x-forwarded-proto"] == "https"


def test_bodies__are_limited_except_for_uploads(nginx: NginxServer) -> None:
    upload = "/admin/thumbnails/imageasset/add/"
    assert nginx.request("POST", upload, bytes(4 * MEBIBYTE)).headers["x-got-bytes"] == "4194304"
    for path, mebibytes in (("/api/v1/images/", 4), (upload, 300)):
        refused = nginx.request("POST", path, Content_Length=str(mebibytes * MEBIBYTE))
        assert refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


# --- With the site behind it ----------------------------------------------------------------------


def plain(nginx: NginxServer, path: str) -> tuple[int, str | None]:
    with closing(HTTPConnection(LOOPBACK, nginx.plain_port)) as connection:
        connection.request("GET", path, headers={"Host": HOST})
        response = connection.getresponse()
        return response.status, response.headers["Location"]


@pytest.fixture
def thumbnail_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nginx-site-"))
    folder.chmod(0o755)
    yield folder / "made" / "thumbnails"
    shutil.rmtree(folder)


def test_site__behind_nginx(
    make_asset: MakeAsset,
    process_environment: dict[str, str],
    thumbnail_dir: Path,
    tmp_path: Path,
    run_command: RunCommand,
    settings: Settings,
) -> None:
    """What is written under a umask that lets no other user read is read by nginx's own user."""
    settings.THUMBNAIL_VARIANTS = ".webp=32"
    asset = make_asset()
    path, _, query = asset.thumbnail_url.partition("?")
    environment = {
        **process_environment,
        "HTTPS": "on",
        "PROXIES": "1",
        "ALLOWED_HOSTS": f"{HOST},{LOOPBACK}",
        "THUMBNAIL_VARIANTS": settings.THUMBNAIL_VARIANTS,
    }
    before = os.umask(0o077)
    try:
        site = WebServer(environment, tmp_path / "web.log", threads=4)
    finally:
        os.umask(before)
    try:
        site.wait_until_ready()
        with NginxServer(thumbnail_dir, site.port) as nginx:
            assert plain(nginx, path) == (301, f"https://{HOST}{path}")

            miss, hit = nginx.get(asset.thumbnail_url), nginx.get(asset.thumbnail_url)
            assert (is_by_site(miss), is_by_site(hit)) == (True, False)
            assert hit.body == miss.body
            assert comparable(hit) == comparable(miss)

            variant = nginx.get(f"{path.replace('.jpg', '.webp')}?{query}")
            assert not is_by_site(variant)
            assert variant.headers["content-type"] == "image/webp"

            ImageAsset.objects.update(thumbnail_recipe="0" * 16)
            asset.refresh_from_db()
            stale = nginx.get(asset.thumbnail_url)
            assert is_by_site(stale)
            assert (stale.body, stale.headers["cache-control"]) == (hit.body, REVALIDATED)

            assert run_command("purge_thumbnails", "--all", "--yes").returncode == 0
            assert [is_by_site(nginx.get(path)) for _ in range(2)] == [True, False]
    finally:
        site.kill()


def is_by_site(answer: Answer) -> bool:
    """Whether the site has sent the picture: the ETag is its stamp, where nginx makes one."""
    assert answer.status == HTTPStatus.OK, answer
    return answer.headers["etag"] == f'"{read_stamp(answer.body)}"'


def comparable(answer: Answer) -> dict[str, str]:
    # Last-Modified: a picture that was rendered just now is as old as its answer, not its file.
    own = {
        *("date", "last-modified", "etag", "connection", "accept-ranges", "x-request-id"),
        "strict-transport-security",
    }
    return {name: value for name, value in answer.headers.items() if name not in own}

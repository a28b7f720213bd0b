"""What `make run` sets up and runs. The last tests run a whole site, in a copy of the checkout."""

import http.cookiejar
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import rq
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.db import OperationalError, connection
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests import lifeline, pictures
from tests.conftest import MakeAsset
from tests.processes import ROOT, database_url
from tests.waiting import PATIENCE_SECONDS, is_alive, wait_for
from thumbnails.models import ImageAsset, TrainingSession
from thumbsite.demo import saved_environment, setup

# --- Where it may run -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def tests_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Keep the environment of the tests out of the demo site's, and the other way round."""
    before = dict(os.environ)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("PORT", *setup.SETTINGS, "THUMBNAIL_DIR"):
        os.environ.pop(name, None)
    return before


@pytest.fixture
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo site's files in a checkout of the test's own."""
    folder = tmp_path / "var"
    folder.mkdir()
    monkeypatch.setattr(setup, "BASE_DIR", tmp_path)
    monkeypatch.setattr(setup, "VAR_DIR", folder)
    monkeypatch.setattr(saved_environment, "ENVIRONMENT_FILE", folder / "trial.env")
    for name in ("PASSWORD_FILE", "LOCK_FILE"):
        monkeypatch.setattr(setup, name, folder / getattr(setup, name).name)
    return folder


@pytest.mark.parametrize(("text", "port"), [("", 8000), ("1", 1), ("8001", 8001), ("65535", 65535)])
def test_port__is_as_asked(text: str, port: int) -> None:
    os.environ["PORT"] = text
    assert setup.chosen_port() == port


@pytest.mark.parametrize("text", ["0", "65536", "-1", "80 80", "http", "٣", "8e3"])
def test_port__must_be_one(text: str) -> None:
    os.environ["PORT"] = text
    with pytest.raises(setup.DemoError, match="PORT must be a number from 1 to 65535"):
        setup.chosen_port()


def test_port__taken_is_an_error_that_names_it_and_another() -> None:
    with socket.create_server((setup.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(setup.DemoError) as caught:
            setup.check_port_is_free(port)
    assert str(caught.value).startswith(f"Port {port} is taken. Choose another one: PORT=")
    setup.check_port_is_free(port)


def test_lock__is_for_one(var: Path) -> None:
    setup.hold_lock(8000)
    with pytest.raises(setup.DemoError, match=r"runs already: http://127\.0\.0\.1:8000/"):
        setup.hold_lock(8001)


# --- Its environment ------------------------------------------------------------------------------


def test_load_environment__does_nothing_without_a_demo_site(var: Path) -> None:
    before = os.environ.copy()
    saved_environment.load_environment()
    assert os.environ == before


def test_load_environment__leaves_the_last_word_to_the_user(var: Path) -> None:
    saved_environment.ENVIRONMENT_FILE.write_text(
        "SECRET_KEY=a=b\nHTTPS=off\nDATABASE_URL=sqlite:///x\n"
    )
    os.environ["HTTPS"] = "on"
    os.environ["DATABASE_URL"] = ""
    saved_environment.load_environment()
    assert os.environ["SECRET_KEY"] == "a=b"
    assert os.environ["HTTPS"] == "on"
    assert os.environ["DATABASE_URL"] == ""


def test_set_environment__supplies_what_is_missing(var: Path) -> None:
    setup.set_environment()
    assert len(os.environ["SECRET_KEY"]) > 50
    assert os.environ["DEBUG"] == os.environ["HTTPS"] == "off"
    assert os.environ["ALLOWED_HOSTS"] == "localhost,127.0.0.1,[::1]"
    assert os.environ["PORT"] == "8000"
    assert os.environ["THUMBNAIL_DIR"] == str(var / "thumbnails")
    assert "DATABASE_URL" not in os.environ


def test_set_environment__completes_one_from_before_the_cache_was_in_var(var: Path) -> None:
    before = "ALLOWED_HOSTS=localhost\nDEBUG=off\nHTTPS=off\nSECRET_KEY=secret\n"
    saved_environment.ENVIRONMENT_FILE.write_text(before)
    setup.set_environment()
    kept = saved_environment.read_environment_file()
    assert kept["SECRET_KEY"] == "secret"
    assert kept["THUMBNAIL_DIR"] == str(var / "thumbnails")


def test_set_environment__leaves_the_cache_where_the_user_wants_it(var: Path) -> None:
    os.environ["THUMBNAIL_DIR"] = "/srv/thumbnails"
    setup.set_environment()
    assert saved_environment.read_environment_file()["THUMBNAIL_DIR"] == "/srv/thumbnails"


def test_set_environment__is_kept_for_this_user_only(var: Path) -> None:
    setup.set_environment()
    kept = saved_environment.read_environment_file()
    assert kept == {name: os.environ[name] for name in kept}
    assert {"ALLOWED_HOSTS", "DEBUG", "HTTPS", "REDIS_URL", "SECRET_KEY"} <= set(kept)
    assert stat.S_IMODE(saved_environment.ENVIRONMENT_FILE.stat().st_mode) == 0o600


def test_set_environment__takes_over_the_secret_key_and_no_more(var: Path) -> None:
    os.environ["DATABASE_URL"] = "postgres://somewhere/else"
    os.environ["THUMBNAIL_SIZE"] = "128"
    setup.set_environment()
    secret_key = os.environ["SECRET_KEY"]
    assert saved_environment.read_environment_file()["THUMBNAIL_SIZE"] == "128"
    for name in ("DATABASE_URL", "THUMBNAIL_SIZE", "SECRET_KEY"):
        del os.environ[name]
    setup.set_environment()
    assert os.environ["SECRET_KEY"] == secret_key
    assert "DATABASE_URL" not in saved_environment.read_environment_file()
    assert "THUMBNAIL_SIZE" not in saved_environment.read_environment_file()


def test_set_environment__bundles_a_queue_on_a_socket(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "socket_path", lambda: Path("/srv/site/var/valkey.sock"))
    setup.set_environment()
    assert os.environ["REDIS_URL"] == "unix:///srv/site/var/valkey.sock"
    assert os.environ[setup.BUNDLED_QUEUE] == "/srv/site/var/valkey.sock"
    assert shutil.which("valkey-server", path=os.environ["PATH"])


def test_set_environment__leaves_the_queue_to_who_has_one(var: Path) -> None:
    os.environ["REDIS_URL"] = "redis://queue.example/0"
    setup.set_environment()
    assert os.environ["REDIS_URL"] == "redis://queue.example/0"
    assert setup.BUNDLED_QUEUE not in os.environ


def test_socket__is_in_var_where_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "VAR_DIR", Path("/srv/site/var"))
    assert setup.socket_path() == Path("/srv/site/var/valkey.sock")


@pytest.mark.parametrize("name", ["x" * 100, "my photos", "a=b", "ü"])
def test_socket__is_elsewhere_for_a_long_or_odd_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "VAR_DIR", tmp_path / name / "var")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    path = setup.socket_path()
    assert path.parent.parent == tmp_path
    assert path == setup.socket_path()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_socket__is_in_nobody_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "VAR_DIR", tmp_path / "my photos" / "var")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    setup.socket_path().parent.chmod(0o777)
    with pytest.raises(setup.DemoError, match="must be a directory of yours alone"):
        setup.socket_path()


# --- What is in it --------------------------------------------------------------------------------


def test_admin__is_created_once(db: None, var: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup.create_admin()
    setup.create_admin()
    admin = User.objects.get()
    password = setup.PASSWORD_FILE.read_text().strip()
    assert admin.is_staff
    assert admin.is_superuser
    assert admin.check_password(password)
    assert stat.S_IMODE(setup.PASSWORD_FILE.stat().st_mode) == 0o600
    assert capsys.readouterr().out == "Created the staff user admin.\n"
    assert setup.password_hint() == f"password {password} (kept in var/admin-password)"


def test_admin__keeps_the_password_that_was_set_since(db: None, var: Path) -> None:
    setup.create_admin()
    admin = User.objects.get()
    admin.set_password("mine")
    admin.save()
    setup.create_admin()
    admin.refresh_from_db()
    assert admin.check_password("mine")
    assert setup.password_hint() == "with the password that was set by hand"


def test_admin__of_a_new_database_has_the_kept_password(db: None, var: Path) -> None:
    setup.PASSWORD_FILE.write_text("kept\n")
    setup.create_admin()
    assert User.objects.get().check_password("kept")


def test_demo__fills_an_empty_site_once(
    db: None, originals_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (originals_dir / ".DS_Store").touch()
    setup.add_demo()
    assert ImageAsset.objects.count() == 62
    assert TrainingSession.objects.get(name="Demo").assets.count() == 62
    assert "62 of them are pictures" in capsys.readouterr().out
    setup.add_demo()
    assert ImageAsset.objects.count() == 62
    assert capsys.readouterr().out == ""


def test_demo__is_not_for_who_has_images(make_asset: MakeAsset, originals_dir: Path) -> None:
    make_asset()
    setup.add_demo()
    assert ImageAsset.objects.count() == 1
    assert not (originals_dir / "demo").exists()


def test_demo__is_not_put_among_other_originals(
    db: None, originals_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (originals_dir / "mine.jpg").write_bytes(pictures.jpeg())
    setup.add_demo()
    assert not ImageAsset.objects.exists()
    assert not (originals_dir / "demo").exists()
    assert f"manage.py import_images {originals_dir}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImproperlyConfigured("SECRET_KEY is not set"), "SECRET_KEY is not set"),
        (CommandError("wrong"), "wrong"),
        (OperationalError("refused"), "The database of DATABASE_URL does not answer: refused"),
        (RedisConnectionError("refused"), "The queue of REDIS_URL does not answer: refused"),
    ],
)
def test_errors__are_readable(error: Exception, message: str) -> None:
    with pytest.raises(setup.DemoError) as caught, setup.readable_errors():
        raise error
    assert str(caught.value) == message


# --- The whole site -------------------------------------------------------------------------------


CHECKOUT_FILES = ("Makefile", "Procfile", "manage.py", "requirements.txt", "requirements-dev.txt")


class Site:
    """A demo site in a checkout of its own."""

    def __init__(self, checkout: Path, scratch: Path, database: str) -> None:
        self.checkout = checkout
        with socket.create_server((setup.HOST, 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://{setup.HOST}:{self.port}/"
        # Not as a part of the make that runs the tests.
        self.environment = {name: os.environ[name] for name in os.environ if "MAKE" not in name}
        # The site's own default, and not the cache of the tests.
        self.environment["THUMBNAIL_DIR"] = ""
        if database:
            self.environment["DATABASE_URL"] = database
        self.log = scratch / "log"
        self.make: subprocess.Popen[bytes] | None = None
        self.processes: list[psutil.Process] = []
        self.cookies = http.cookiejar.CookieJar()
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def start(self) -> None:
        # A session of its own, as in a terminal of its own.
        with self.log.open("wb") as output:
            self.make = lifeline.start(
                self.command(),
                cwd=self.checkout,
                env=self.environment | {"PORT": str(self.port)},
                output=output,
                new_session=True,
            )
        wait_for(self.answers, "the site")
        wait_for(lambda: self.workers_ready() == 2, "both workers")

    def start_in_vain(self) -> str:
        """What `make run` complains of where it does not start."""
        refused = subprocess.run(
            self.command(),
            cwd=self.checkout,
            env=self.environment | {"PORT": str(self.port)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode != 0
        assert "Traceback" not in refused.stderr
        return refused.stderr

    def command(self) -> list[str]:
        # All is installed, but elsewhere.
        return ["make", "run", f"BIN={Path(sys.executable).parent}", "INSTALLED=installed"]

    def answers(self) -> bool:
        assert self.make
        assert self.make.poll() is None, self.log.read_text()
        try:
            return bool(self.get())
        except urllib.error.URLError:
            return False

    def get(self, path: str = "") -> bytes:
        with self.browser.open(self.url + path) as answer:
            return bytes(answer.read())

    def workers_ready(self) -> int:
        return self.log.read_text().count("*** Listening on")

    def assets(self) -> dict[str, int]:
        """How many are in which state, as a command in another shell finds it."""
        told = subprocess.run(
            [sys.executable, "manage.py", "thumbnail_stats", "--json"],
            cwd=self.checkout,
            env=os.environ,
            capture_output=True,
            check=True,
        )
        return dict(json.loads(told.stdout)["assets"])

    def log_in(self, password: str) -> str:
        """The address where the admin sends who logs in."""
        address = f"{self.url}admin/login/?next=/admin/"
        self.browser.open(address).close()
        form = {
            "username": "admin",
            "password": password,
            "csrfmiddlewaretoken": next(
                one.value for one in self.cookies if one.name == "csrftoken"
            ),
        }
        with self.browser.open(address, urllib.parse.urlencode(form).encode()) as answer:
            return str(answer.url)

    def members(self) -> list[psutil.Process]:
        """All processes of the site but make."""
        return psutil.Process(self.make.pid).children(recursive=True) if self.make else []

    def stop(self, signum: signal.Signals) -> None:
        """Send make the signal, as Ctrl-C to all that a terminal sees, and wait for its end."""
        assert self.make
        self.processes += self.members()
        if signum == signal.SIGINT:
            os.killpg(self.make.pid, signum)
        else:
            self.make.send_signal(signum)
        self.make.wait(PATIENCE_SECONDS)

    def running(self) -> list[psutil.Process]:
        """What still runs of what ran when it was stopped."""
        return [process for process in self.processes if is_alive(process)]

    def end(self) -> None:
        """Whatever became of the test, leave no process."""
        if self.make and self.make.poll() is None:
            self.stop(signal.SIGKILL)
        for process in self.running():
            process.kill()


@pytest.fixture
def site(
    tmp_path: Path,
    originals_dir: Path,
    tests_environment: dict[str, str],
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    """On PostgreSQL with DATABASE_URL; on SQLite without, as for who has nothing."""
    # Not in tmp_path, whose length would put the queue's socket elsewhere.
    checkout = Path(tempfile.mkdtemp(prefix="site-"))
    # Without bytecode that another process is about to rename.
    unfinished = shutil.ignore_patterns("*.pyc.*")
    for name in ("thumbnails", "thumbsite"):
        shutil.copytree(ROOT / name, checkout / name, ignore=unfinished)
    for name in CHECKOUT_FILES:
        shutil.copy(ROOT / name, checkout)
    (checkout / "installed").touch()
    database = ""
    if request.config.getoption("--database") == "postgresql":
        request.getfixturevalue("transactional_db")
        name = str(connection.settings_dict["NAME"])
        database = database_url(tests_environment["DATABASE_URL"], name)
    # Without demo originals a site starts faster; the test that is about them asks for them.
    (originals_dir / "mine.jpg").write_bytes(pictures.jpeg())
    new = Site(checkout, tmp_path, database)
    new.environment["ORIGINALS_DIR"] = str(originals_dir)
    try:
        yield new
    finally:
        new.end()
        shutil.rmtree(checkout, ignore_errors=True)


def test_site__is_whole_and_found_again(site: Site) -> None:
    del site.environment["ORIGINALS_DIR"]
    site.start()
    log = site.log.read_text()
    password = (site.checkout / "var" / "admin-password").read_text().strip()
    assert f"Public page:  {site.url}\n" in log
    assert f"Admin:        {site.url}admin/\n" in log
    assert f"Staff user:   admin, password {password} (kept in var/admin-password)\n" in log
    shown = re.findall(r'src="/(thumbnails/[^"]+)"', site.get().decode())
    assert site.get(shown[-1]).startswith(b"\xff\xd8\xff")  # a JPEG
    assert len([*(site.checkout / "var" / "thumbnails").glob("??/*.jpg")]) == 1
    assert site.log_in(password) == f"{site.url}admin/"
    assert site.assets() == {"missing": 61, "fresh": 1, "stale": 0, "failed": 0, "accepted": 0}
    site.stop(signal.SIGTERM)
    assert not site.running()

    site.start()
    assert "Created" not in site.log.read_text()
    assert site.log_in(password) == f"{site.url}admin/"
    assert site.assets() == {"missing": 61, "fresh": 1, "stale": 0, "failed": 0, "accepted": 0}
    site.stop(signal.SIGINT)
    assert not site.running()


def test_site__is_the_only_one_of_its_checkout(site: Site) -> None:
    site.start()
    site.port += 1
    assert site.start_in_vain().startswith(f"The site of this checkout runs already: {site.url}")


def test_site__ends_while_a_worker_is_busy(site: Site) -> None:
    site.start()
    url = (site.checkout / "var" / "trial.env").read_text().split("REDIS_URL=")[1].split()[0]
    before = len(site.members())
    with Redis.from_url(url) as queue:
        rq.Queue("default", connection=queue).enqueue("time.sleep", 600)
    wait_for(lambda: len(site.members()) == before + 1, "the work horse")
    site.stop(signal.SIGTERM)
    assert not site.running()


def test_site__goes_on_when_a_worker_is_killed(site: Site) -> None:
    site.start()
    worker = next(one for one in site.members() if "rqworker" in one.cmdline())
    worker.kill()
    wait_for(lambda: site.workers_ready() == 3, "another worker")
    assert site.answers()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_site__ends_with_a_make_that_is_killed(site: Site) -> None:
    site.start()
    site.stop(signal.SIGKILL)
    wait_for(lambda: not site.running(), "the end of the site")


def test_site__says_what_is_wrong_with_a_setting(site: Site) -> None:
    site.environment["THUMBNAIL_SIZE"] = "big"
    complaint, *_ = site.start_in_vain().splitlines()
    assert complaint == "THUMBNAIL_SIZE must be a whole number, not 'big'."


def test_site__says_what_is_wrong_with_the_cache_s_folder(site: Site) -> None:
    folder = site.checkout / "var" / "thumbnails"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    complaint, *_ = site.start_in_vain().splitlines()
    assert complaint.startswith(f"{folder} cannot be the cache's folder: everyone may write to it.")


def test_site__needs_its_port(site: Site) -> None:
    with socket.create_server((setup.HOST, site.port)):
        assert site.start_in_vain().startswith(f"Port {site.port} is taken.")
    assert not (site.checkout / "var" / "trial.env").exists()

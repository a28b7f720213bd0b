"""The app as a package: the wheel, and a project that follows docs/own-project.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

import pytest

from tests import pictures
from tests.processes import COMMAND_SECONDS, ROOT
from tests.servers import QueueServer

SORL = "sorl-thumbnail==13.0.0"
"""Another app for thumbnails, of a similar name."""
BLOCKS = dict(
    re.findall(
        r"^```python\n# (.+?)\n(.*?)^```$",
        (ROOT / "docs" / "own-project.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
"""The document's blocks of code, by the comment in their first lines."""

# A project that differs from the site wherever a project may.
SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only-for-this-test"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "shop.urls"
FORCE_SCRIPT_NAME = "/shop"
STATIC_URL = "assets/"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}
}
AUTH_USER_MODEL = "people.Person"
LANGUAGE_CODE = "de"
SILENCED_SYSTEM_CHECKS = ["thumbnails.W004"]  # the cache is Django's default, of one process
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = "Europe/Berlin"
MEDIA_ROOT = BASE_DIR / "media"
INSTALLED_APPS = [
    "catalog",
    "people",
    "sorl.thumbnail",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""
URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("office/", admin.site.urls)]
"""
MODELS = """
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class People(BaseUserManager):
    def get_by_natural_key(self, email):
        return self.get(email=email)


class Person(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(unique=True)
    is_staff = models.BooleanField(default=True)
    objects = People()
    USERNAME_FIELD = "email"
"""
PRODUCTS = """
from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=50)
    photo = models.ImageField(upload_to="products")
"""
# Adds products, one of them without a signal, and calls the view.
SELL = """
import django

django.setup()

from django.core.files import File
from catalog.models import Product
from catalog.views import products
from django.core.management import call_command

with open("beach.jpg", "rb") as file:
    product = Product.objects.create(name="towel", photo=File(file, "towel.jpg"))
    product.photo.storage.save("products/chair.jpg", file)
Product.objects.bulk_create([Product(name="chair", photo="products/chair.jpg")])
call_command("track_images")
print(products(None).content.decode())
"""
MANAGE = """
import sys

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""
# Opens pages of the newest image and run as the superuser, and says how they were answered.
BROWSE = """
import json
import sys

import django

django.setup()

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from thumbnails.models import ImageAsset, Run

client = Client()
person, _ = get_user_model().objects.get_or_create(email="ann@example.org", is_superuser=True)
client.force_login(person)
asset, run = ImageAsset.objects.latest("pk"), Run.objects.latest("pk")
names = {"asset": asset.pk, "run": run.pk, "thumbnail": asset.thumbnail_url}
answers = {}
for address in sys.argv[1:]:
    path = address.format(**names).removeprefix(settings.FORCE_SCRIPT_NAME)
    response = client.get(path)
    answers[address] = [response.status_code, response.headers["Content-Type"].partition(";")[0]]
print(json.dumps(answers))
"""

ADMIN = "/office/thumbnails"
PAGES = [
    "/office/",
    f"{ADMIN}/",
    f"{ADMIN}/imageasset/",
    f"{ADMIN}/imageasset/?q=beach&orientation=2-8",
    f"{ADMIN}/imageasset/add/",
    f"{ADMIN}/imageasset/{{asset}}/change/",
    f"{ADMIN}/imageasset/{{asset}}/purge/",
    f"{ADMIN}/imageasset/plan/regenerate/",
    f"{ADMIN}/imageasset/plan/purge/",
    f"{ADMIN}/cache/",
    f"{ADMIN}/run/",
    f"{ADMIN}/run/{{run}}/change/",
    f"{ADMIN}/run/{{run}}/progress/",
    f"{ADMIN}/run/{{run}}/report/",
    f"{ADMIN}/trainingsession/",
    f"{ADMIN}/apitoken/",
    f"{ADMIN}/apitoken/add/",
]
API = "/api/thumbnails"
CALLS = [
    f"{API}/healthz",
    f"{API}/images",
    f"{API}/images/{{asset}}",
    f"{API}/admin/thumbnails/runs/{{run}}",
    f"{API}/openapi.json",
]
PICTURE, HTML, JSON = "image/jpeg", "text/html", "application/json"


class Project:
    """A project in a folder and a virtual environment of its own."""

    def __init__(self, home: Path, redis_url: str) -> None:
        self.home = home
        self.python = home / ".venv" / "bin" / "python"
        # Nothing of the tests' own settings, which are in the environment.
        self._environment = {
            name: os.environ[name] for name in os.environ.keys() & {"HOME", "LANG", "PATH"}
        } | {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "REDIS_URL": redis_url,
        }

    def write(self) -> None:
        for name, text in {
            "manage.py": MANAGE,
            "browse.py": BROWSE,
            "catalog/__init__.py": "",
            "catalog/apps.py": BLOCKS["catalog/apps.py"],
            "catalog/migrations/__init__.py": "",
            "catalog/models.py": PRODUCTS,
            "catalog/views.py": BLOCKS["catalog/views.py"],
            "sell.py": SELL,
            "people/__init__.py": "",
            "people/migrations/__init__.py": "",
            "people/models.py": MODELS,
            "shop/__init__.py": "",
            "shop/settings.py": SETTINGS + BLOCKS["settings.py"],
            "shop/urls.py": URLS + BLOCKS["urls.py"],
        }.items():
            path = self.home / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text, encoding="utf-8")

    def extend(self, name: str, block: str) -> None:
        with (self.home / "shop" / name).open("a", encoding="utf-8") as file:
            file.write(BLOCKS[block])

    def run(self, *arguments: object) -> str:
        """What a Python program of the project prints."""
        return finished([str(self.python), *map(str, arguments)], self.home, self._environment)

    def browse(self, addresses: Iterable[str]) -> dict[str, list[object]]:
        """Status and media type of each page, as a superuser who is logged in."""
        answers: dict[str, list[object]] = json.loads(self.run("browse.py", *addresses))
        return answers


def finished(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout[-3_000:], done.stderr[-6_000:])
    return done.stdout


def uv(*arguments: object) -> None:
    finished([sys.executable, "-m", "uv", "--quiet", "--system-certs", *map(str, arguments)], ROOT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--out-dir", folder)
    [path] = folder.glob("*.whl")
    return path


def test_wheel__contains_the_app_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "thumbnails").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {Path(name).suffix for name in names} == {".css", ".html", ".js", ".py", ".typed"}


def test_project__has_what_the_document_says(
    wheel: Path, tmp_path: Path, queue_server: QueueServer
) -> None:
    project = Project(tmp_path, queue_server.url)
    project.write()
    (tmp_path / "beach.jpg").write_bytes(pictures.jpeg(orientation=6))
    pinned = ROOT / "requirements.txt"

    # Without the extra.
    uv("venv", "--python", sys.executable, tmp_path / ".venv")
    install = ("pip", "install", "--python", project.python, "--constraint", pinned)
    uv(*install, wheel, SORL)
    made = project.run("manage.py", "makemigrations")
    assert "'people'" in made
    assert "'thumbnails'" not in made  # whatever the project's settings
    project.run("manage.py", "migrate")
    project.run("manage.py", "check", "--fail-level", "WARNING")
    project.run("manage.py", "import_images", "beach.jpg")
    report, thumbnails = project.run("sell.py").splitlines()
    assert report.startswith("catalog.Product.photo: 1 added, 0 updated, 1 known")
    assert json.loads(thumbnails).keys() == {"towel", "chair"}
    report = json.loads(project.run("manage.py", "regenerate_thumbnails", "--json"))
    assert report["rendered"] == 3
    project.run("manage.py", "regenerate_thumbnails", "--force", "--enqueue")
    project.run("manage.py", "rqworker", "thumbnails-now", "thumbnails-bulk", "--burst")
    assert project.browse([*PAGES, "{thumbnail}", "/media/", f"{API}/healthz"]) == {
        **{page: [HTTPStatus.OK, HTML] for page in PAGES},
        "{thumbnail}": [HTTPStatus.OK, PICTURE],
        "/media/": [HTTPStatus.NOT_FOUND, HTML],
        f"{API}/healthz": [HTTPStatus.NOT_FOUND, HTML],
    }

    where_ninja_is = "import importlib.util; print(importlib.util.find_spec('ninja'))"
    assert project.run("-c", where_ninja_is) == "None\n"

    # With it.
    uv(*install, f"{wheel}[api]")
    for name in ("settings.py", "urls.py"):
        project.extend(name, f"{name}, with the API")
    assert project.browse([*CALLS, f"{API}/docs"]) == {
        **{call: [HTTPStatus.OK, JSON] for call in CALLS},
        f"{API}/docs": [HTTPStatus.OK, HTML],
    }

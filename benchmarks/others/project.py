"""A small Django project with one of the other libraries."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from benchmarks.others.contender import Contender
from benchmarks.site import link


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """How a library is used."""

    apps: list[str]
    settings: dict[str, Any]
    fields: Callable[[], dict[str, Any]]
    """The fields of the project's model; called when Django is set up."""
    render: Callable[[Any], str]
    """Renders a row's thumbnail. Returns its name in the storage."""
    template: str


class Project(Contender):
    """Its originals lie in the default storage, its rows in SQLite; its cache is in memory."""

    def __init__(self, library: Library, home: Path) -> None:
        self._media = home / "media"
        self._media.mkdir(parents=True)
        self._render = library.render
        self._numbers = itertools.count()
        self.template = library.template
        _set_up(library, home, self._media)
        self._model = _model(library.fields())

    def add(self, picture: Path) -> Any:
        name = f"{next(self._numbers)}{picture.suffix}"
        link(picture, self._media / name)
        return self._model.objects.create(photo=name)

    def render(self, row: Any) -> Path:
        return self._media / self._render(row)

    def rows(self) -> Any:
        return self._model.objects.all()

    def empty_cache(self) -> None:
        from django.core.cache import cache  # noqa: PLC0415  with Django's settings

        cache.clear()


def _set_up(library: Library, home: Path, media: Path) -> None:
    from django.core.management import call_command  # noqa: PLC0415  with Django's settings

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "benchmarks.others", *library.apps],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": home / "db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        STORAGES={"default": {"BACKEND": "benchmarks.others.storages.CountingStorage"}},
        MEDIA_ROOT=media,
        MEDIA_URL="/media/",
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        USE_TZ=True,
        # Both that could use queues ask for them on import, since django-rq is installed.
        RQ_QUEUES={name: {"URL": "unix:///no-queue"} for name in ("default", "pictures")},
        **library.settings,
    )
    django.setup()
    call_command("migrate", verbosity=0)


def _model(fields: dict[str, Any]) -> Any:
    from django.db import connection, models  # noqa: PLC0415  with Django's settings

    meta = type("Meta", (), {"app_label": "others"})
    model: Any = type("Photo", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model

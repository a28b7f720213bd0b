"""easy-thumbnails."""

from typing import Any

from benchmarks.others.project import Library


def _fields() -> dict[str, Any]:
    from django.db import models  # noqa: PLC0415  with Django's settings

    return {"photo": models.ImageField()}


def _render(row: Any) -> str:
    from easy_thumbnails.files import get_thumbnailer  # noqa: PLC0415  with Django's settings

    return str(get_thumbnailer(row.photo).get_thumbnail({"size": (256, 256)}).name)


LIBRARY = Library(
    apps=["easy_thumbnails"],
    settings={"THUMBNAIL_QUALITY": 85},
    fields=_fields,
    render=_render,
    template=(
        "{% load thumbnail %}{% for row in rows %}"
        '<img src="{% thumbnail row.photo 256x256 %}">'
        "{% endfor %}"
    ),
)

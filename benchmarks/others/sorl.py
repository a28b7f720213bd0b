"""sorl-thumbnail."""

from typing import Any

from benchmarks.others.project import Library


def _fields() -> dict[str, Any]:
    from sorl.thumbnail import ImageField  # noqa: PLC0415  with Django's settings

    return {"photo": ImageField()}


def _render(row: Any) -> str:
    from sorl.thumbnail import get_thumbnail  # noqa: PLC0415  with Django's settings

    return str(get_thumbnail(row.photo, "256x256").name)


LIBRARY = Library(
    apps=["sorl.thumbnail"],
    settings={"THUMBNAIL_QUALITY": 85, "THUMBNAIL_UPSCALE": False},
    fields=_fields,
    render=_render,
    template=(
        "{% load thumbnail %}{% for row in rows %}"
        '{% thumbnail row.photo "256x256" as im %}'
        '<img src="{{ im.url }}" width="{{ im.width }}" height="{{ im.height }}">'
        "{% endthumbnail %}{% endfor %}"
    ),
)

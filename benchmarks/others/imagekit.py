"""django-imagekit."""

from typing import Any

from benchmarks.others.project import Library


def _fields() -> dict[str, Any]:
    from django.db import models  # noqa: PLC0415  with Django's settings
    from imagekit.models import ImageSpecField  # noqa: PLC0415
    from imagekit.processors import ResizeToFit, Transpose  # noqa: PLC0415

    thumbnail = ImageSpecField(
        source="photo",
        processors=[Transpose(), ResizeToFit(256, 256, upscale=False)],
        format="JPEG",
        options={"quality": 85},
    )
    return {"photo": models.ImageField(), "thumbnail": thumbnail}


def _render(row: Any) -> str:
    row.thumbnail.generate()
    return str(row.thumbnail.name)


LIBRARY = Library(
    apps=["imagekit"],
    settings={},
    fields=_fields,
    render=_render,
    template='{% for row in rows %}<img src="{{ row.thumbnail.url }}">{% endfor %}',
)

"""django-pictures, with the one format and width that is nearest to the others' thumbnail.

It fits pictures into a width alone, and saves JPEGs with Pillow's quality of 75.
"""

from typing import Any

from benchmarks.others.project import Library


def _fields() -> dict[str, Any]:
    from django.db import models  # noqa: PLC0415  with Django's settings
    from pictures.models import PictureField  # noqa: PLC0415

    photo = PictureField(aspect_ratios=[None], width_field="width", height_field="height")
    return {
        "photo": photo,
        "width": models.PositiveIntegerField(editable=False),
        "height": models.PositiveIntegerField(editable=False),
    }


def _render(row: Any) -> str:
    row.photo.save_all()
    (picture,) = row.photo.get_picture_files_list()
    return str(picture.name)


LIBRARY = Library(
    apps=["pictures"],
    settings={
        "PICTURES": {
            "BREAKPOINTS": {"xs": 128},
            "CONTAINER_WIDTH": 256,
            "GRID_COLUMNS": 1,
            "PIXEL_DENSITIES": [1],
            "FILE_TYPES": ["JPEG"],
            # In the request that saves the original, as without a queue.
            "PROCESSOR": "pictures.tasks._process_picture",
        }
    },
    fields=_fields,
    render=_render,
    template="{% load pictures %}{% for row in rows %}{% picture row.photo %}{% endfor %}",
)

"""This project itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from benchmarks.others.contender import Contender
from benchmarks.site import Site, link


class Ours(Contender):
    """The site; a picture is decoded in a render process."""

    template = "{% load thumbnails %}{% for row in rows %}{% thumbnail row %}{% endfor %}"

    def __init__(self, home: Path) -> None:
        self._site = Site(home)
        self._numbers = itertools.count()
        self._site.adopt("benchmarks.others.site_settings")

    def add(self, picture: Path) -> Any:
        from thumbnails.upkeep.images import importing  # noqa: PLC0415  with Django's settings

        original = self._site.originals / f"{next(self._numbers)}{picture.suffix}"
        original.parent.mkdir(exist_ok=True)
        link(picture, original)
        return importing.import_file(original)

    def render(self, row: Any) -> Path:
        from thumbnails.upkeep.images import freshness, pools  # noqa: PLC0415

        freshness.refresh_now(row.pk, pools.worker_pool(large=False))
        return self._site.thumbnails / str(row.thumbnail_name)

    def rows(self) -> Any:
        from thumbnails.models import ImageAsset  # noqa: PLC0415

        return ImageAsset.objects.all()

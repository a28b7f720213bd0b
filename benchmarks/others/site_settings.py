"""This project's settings with storages that count."""

from typing import Any, cast

from thumbsite.settings import *  # noqa: F403  all of the site's settings
from thumbsite.settings import STORAGES

_COUNTING = {"originals": "CountingOriginals", "thumbnails": "CountingThumbnails"}
for _alias, _name in _COUNTING.items():
    _storage = cast("dict[str, Any]", STORAGES[_alias])
    _storage["BACKEND"] = f"benchmarks.others.storages.{_name}"

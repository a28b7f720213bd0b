"""What is compared, in a process of its own: it takes commands from its input and answers each."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.meters import cpu_milliseconds


class Contender(ABC):
    """One library in its project."""

    template: str
    """A page of the thumbnails of `rows`."""

    @abstractmethod
    def add(self, picture: Path) -> Any:
        """Record the picture as an original without a thumbnail. Returns its row."""

    @abstractmethod
    def render(self, row: Any) -> Path:
        """Render the row's thumbnail of 256 pixels, as the first page that shows it does."""

    @abstractmethod
    def rows(self) -> Any:
        """Returns the query set of all rows that were added."""

    def empty_cache(self) -> None:  # noqa: B027  not every library has one
        """Forget what later pages need not look up, as a restart or an eviction does."""

    # --- what it is asked to do

    def cold(self, picture: str) -> dict[str, Any]:
        """The CPU of rendering a new original's thumbnail, and the thumbnail's size."""
        row = self.add(Path(picture))
        rendered: list[Path] = []
        milliseconds = cpu_milliseconds(lambda: rendered.append(self.render(row)))
        from PIL import Image  # noqa: PLC0415  only the library itself decides when it is imported

        with Image.open(rendered[0]) as image:
            return {"ms": milliseconds, "size": image.size}

    def fill(self, pictures: list[str]) -> dict[str, Any]:
        """Delete all rows, and add those of the next pages, with thumbnails."""
        self.rows().delete()
        for picture in pictures:
            self.render(self.add(Path(picture)))
        self.page()  # what is read once
        return {}

    def page(self) -> dict[str, Any]:
        """The CPU of a page, and how many images it has."""
        pages: list[str] = []
        milliseconds = cpu_milliseconds(lambda: pages.append(self._page()))
        return {"ms": milliseconds, "images": pages[0].count("<img")}

    def count(self) -> dict[str, Any]:
        """The queries of a page and its calls of storages, also where the cache is empty."""
        warm = self._counts()
        self.empty_cache()
        first = self._counts()
        return {"warm": warm, "first": first}

    def _page(self) -> str:
        from django.template import Context, engines  # noqa: PLC0415  Django is set up before

        template = engines["django"].engine.from_string(self.template)  # type: ignore[attr-defined]
        return str(template.render(Context({"rows": self.rows()})))

    def _counts(self) -> dict[str, int]:
        from django.db import connection  # noqa: PLC0415  Django is set up before
        from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

        from benchmarks.others.storages import asked  # noqa: PLC0415

        before = asked()
        with CaptureQueriesContext(connection) as queries:
            self._page()
        return {"queries": len(queries), "calls": asked() - before}


def serve(contender: Contender) -> None:
    """Do what is asked, a line of JSON each, until the input ends."""
    acts: dict[str, Callable[..., dict[str, Any]]] = {
        "cold": contender.cold,
        "fill": contender.fill,
        "page": contender.page,
        "count": contender.count,
    }
    _say({})
    for line in sys.stdin:
        act, *arguments = json.loads(line)
        _say(acts[act](*arguments))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()

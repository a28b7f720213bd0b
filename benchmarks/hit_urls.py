"""The site's URLs, and a view that returns the bytes of a thumbnail as a constant."""

import os
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from thumbnails.rendering.pool import RenderPool
from thumbsite.urls import handler500
from thumbsite.urls import urlpatterns as of_the_site

CONTENT = Path(os.environ["BENCHMARK_THUMBNAIL"]).read_bytes()


def constant(_: HttpRequest) -> HttpResponse:
    return HttpResponse(CONTENT, content_type="image/jpeg")


def _count_renders(log: str) -> None:
    """Let each process append a byte to the file whenever it renders."""
    render = RenderPool.render

    def counted(*args: Any, **kwargs: Any) -> Any:
        with Path(log).open("ab") as file:
            file.write(b".")
        return render(*args, **kwargs)

    RenderPool.render = counted  # type: ignore[method-assign]


if renders := os.environ.get("BENCHMARK_RENDERS"):
    _count_renders(renders)
urlpatterns = [path("constant.jpg", constant), *of_the_site]
__all__ = ["handler500", "urlpatterns"]

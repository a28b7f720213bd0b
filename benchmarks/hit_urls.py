"""The site's URLs, and a view that returns the bytes of a thumbnail as a constant."""

import os
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path

from thumbsite.urls import handler500
from thumbsite.urls import urlpatterns as of_the_site

CONTENT = Path(os.environ["BENCHMARK_THUMBNAIL"]).read_bytes()


def constant(_: HttpRequest) -> HttpResponse:
    return HttpResponse(CONTENT, content_type="image/jpeg")


urlpatterns = [path("constant.jpg", constant), *of_the_site]
__all__ = ["handler500", "urlpatterns"]

"""The number of queries of pages with thumbnails: only those that load the page's rows."""

import warnings
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from django.db import connection
from django.template import Context, Engine
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.report import Bound, Row, Section
from benchmarks.running import empty
from benchmarks.site import NothingToMeasure, Site
from thumbnails.models import ImageAsset, recipes
from thumbnails.upkeep.images import importing
from thumbnails.views import PER_PAGE

URLS = 100
GALLERY_QUERIES = 3
"""The number of images, as cached and else as counted, and the rows of the page."""
PAGE_QUERIES = 1
"""The rows."""
HIT_QUERIES = 0
"""The file's stamp is compared with the URL."""

TEMPLATE = "{% for asset in assets %}<img src='{{ asset.thumbnail_url }}'>{% endfor %}"


def measure(here: Site, small: Sequence[Path]) -> Section:
    """With images of this process's own site, whose former ones are deleted."""
    empty(here)
    here.add_originals(small, count=2 * URLS)
    for _ in importing.import_files(importing.find_files([here.originals])):
        pass
    client = _client()
    _render_some(client)
    return Section(
        title="Queries of a page",
        rows=[
            Row(
                key="pages.gallery_queries",
                label=f"the gallery, {PER_PAGE} thumbnails; {GALLERY_QUERIES} are the page's own",
                value=_gallery_queries(client),
                unit="",
                digits=0,
                bound=Bound(at_most=GALLERY_QUERIES),
            ),
            Row(
                key="pages.url_queries",
                label=f"a page of {URLS} thumbnail URLs; {PAGE_QUERIES} is the page's own",
                value=_url_queries(),
                unit="",
                digits=0,
                bound=Bound(at_most=PAGE_QUERIES),
            ),
            Row(
                key="pages.hit_queries",
                label="a thumbnail that is in the cache, by its page's URL",
                value=_hit_queries(client),
                unit="",
                digits=0,
                bound=Bound(at_most=HIT_QUERIES),
            ),
        ],
    )


def _render_some(client: Client) -> None:
    """Render every other image, so that the pages show fresh and missing thumbnails."""
    for asset in ImageAsset.objects.order_by("-pk")[: URLS * 2 : 2]:
        response = client.get(asset.thumbnail_url)
        if response.status_code != HTTPStatus.OK:
            raise NothingToMeasure(f"{asset.thumbnail_url} answers {response.status_code}.")


def _gallery_queries(client: Client) -> int:
    with _captured() as queries:
        response = client.get("/")
    _check(response.content.decode(), PER_PAGE)
    return len(queries)


def _hit_queries(client: Client) -> int:
    address = ImageAsset.objects.fresh().latest("pk").thumbnail_url
    with _captured() as queries:
        response = client.get(address)
    if "immutable" not in response.headers.get("Cache-Control", ""):
        raise NothingToMeasure(f"{address} is not a hit: {response.status_code}.")
    return len(queries)


def _captured() -> CaptureQueriesContext:
    """Without the query for the recipe in force, which a process runs once a second."""
    recipes.look()
    return CaptureQueriesContext(connection)


def _client() -> Client:
    client = Client()
    with warnings.catch_warnings():
        # Static files are not collected here; WhiteNoise finds those of the apps.
        warnings.filterwarnings("ignore", "No directory at", UserWarning)
        client.handler.load_middleware()
    return client


def _url_queries() -> int:
    template = Engine().from_string(TEMPLATE)
    with _captured() as queries:
        page = template.render(Context({"assets": ImageAsset.objects.order_by("-pk")[:URLS]}))
    _check(page, URLS)
    return len(queries)


def _check(page: str, thumbnails: int) -> None:
    found = page.count("<img ")
    if found != thumbnails:
        raise NothingToMeasure(f"A page shows {found} thumbnails instead of {thumbnails}.")

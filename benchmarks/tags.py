"""Pages of thumbnails by template tags, beside the same pages with each `<img>` written by hand."""

import statistics
from functools import partial

from django.db import connection, transaction
from django.db.models import QuerySet
from django.template import engines
from django.test.utils import CaptureQueriesContext

from benchmarks.meters import cpu_milliseconds
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure
from thumbnails.models import ImageAsset, recipe_in_force, recipes

THUMBNAILS = 100
ROUNDS, TIMES = 9, 5
"""How often each page is measured, and how many times it is made then."""
RATIO_BOUND = Bound(at_least=0.5)
PAGE_QUERIES = 1
"""The rows."""

FOLDER = "benchmark of tags"
"""In the names of the rows' originals."""
VARIANTS = {
    "@2x.jpg": [512, 384, 24_000],
    ".webp": [256, 192, 6_000],
    "@2x.webp": [512, 384, 15_000],
}

# The same attributes, each a column as it is.
BY_HAND = (
    '<img src="/thumbnails/{{ asset.thumbnail_path }}?v={{ asset.thumbnail_recipe }}"'
    ' width="{{ asset.thumbnail_width }}" height="{{ asset.thumbnail_height }}" loading="lazy"'
    ' decoding="async" alt="{{ asset.original }}">'
)
THUMBNAIL, PICTURE = "{% thumbnail asset %}", "{% picture asset %}"


def measure(*, rounds: int = ROUNDS) -> Section:
    """With rows of its own, which have no files: a tag looks at none."""
    with transaction.atomic():
        _record_thumbnails()
        queries = _queries(THUMBNAIL)
        bare = _ratio("ratio", "{% thumbnail %}", THUMBNAIL, rounds=rounds)
        _rows().update(thumbnail_variants=VARIANTS)
        with_variants = [
            _ratio("variants_ratio", "{% thumbnail %} with @2x and WebP", THUMBNAIL, rounds=rounds),
            _ratio("picture_ratio", "{% picture %} with @2x and WebP", PICTURE, rounds=rounds),
        ]
        transaction.set_rollback(True)
    return Section(
        title=f"A page of {THUMBNAILS} tags, to one of {THUMBNAILS} <img> written by hand",
        rows=[
            Row(
                key="tags.queries",
                label=f"queries; {PAGE_QUERIES} is the page's own",
                value=queries,
                unit="",
                digits=0,
                bound=Bound(at_most=PAGE_QUERIES),
            ),
            bare,
            *with_variants,
        ],
    )


def _rows() -> QuerySet[ImageAsset]:
    return ImageAsset.objects.filter(original__startswith=FOLDER).order_by("-pk")


def _record_thumbnails() -> None:
    columns = {
        "width": 4000,
        "height": 3000,
        "source_version": "3000000-1764288000",
        "thumbnail_path": "82/12345.jpg",
        "thumbnail_width": 256,
        "thumbnail_height": 192,
        "thumbnail_bytes": 9_000,
        "thumbnail_recipe": recipe_in_force().digest,
        "thumbnail_source": "3000000-1764288000",
    }
    ImageAsset.objects.bulk_create(
        ImageAsset(original=f"{FOLDER}/a_red_boat_{number}.jpg", **columns)
        for number in range(THUMBNAILS)
    )


def _ratio(key: str, label: str, tag: str, *, rounds: int) -> Row:
    """By turns, so that any drift affects both."""
    hand_ms: list[float] = []
    tag_ms: list[float] = []
    for _ in range(rounds):
        for found, element in ((hand_ms, BY_HAND), (tag_ms, tag)):
            found.append(cpu_milliseconds(partial(_pages, element)) / TIMES)
    by_hand, by_tag = statistics.median(hand_ms), statistics.median(tag_ms)
    return Row(
        key=f"tags.{key}",
        label=label,
        value=by_hand / by_tag,
        unit="× speed",
        digits=2,
        bound=RATIO_BOUND,
        note=f"{by_hand:.2f} ms to {by_tag:.2f}",
    )


def _pages(element: str) -> None:
    """Make the page some times, each with its rows from the database."""
    page = f"{{% load thumbnails %}}{{% for asset in assets %}}{element}{{% endfor %}}"
    template = engines["django"].from_string(page)
    for _ in range(TIMES):
        shown = template.render({"assets": _rows()}).count("<img ")
        if shown != THUMBNAILS:
            raise NothingToMeasure(f"A page shows {shown} thumbnails instead of {THUMBNAILS}.")


def _queries(element: str) -> float:
    recipes.look()  # a process does it once a second, whatever it shows
    with CaptureQueriesContext(connection) as queries:
        _pages(element)
    return len(queries) / TIMES

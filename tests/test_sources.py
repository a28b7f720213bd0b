"""What a page is given to show a thumbnail with its variants."""

from __future__ import annotations

import json

import pytest
from pytest_django import Settings

from thumbnails.models import ImageAsset


def photo(**columns: object) -> ImageAsset:
    """One of which nothing is saved: no query is made for its sources."""
    values = {"pk": 12345, "width": 4000, "height": 3000, "source_version": "1-1", **columns}
    return ImageAsset(**values)


@pytest.fixture(autouse=True)
def variants(settings: Settings) -> None:
    settings.THUMBNAIL_VARIANTS = (
        "@2x.jpg=512, .webp=256, @2x.webp=512, .avif=256, -large.jpg=1024, -large.webp=1024"
    )


def test_sources__of_a_missing_thumbnail_are_those_to_be_made() -> None:
    asset = photo(orientation=6)
    path, query = asset.thumbnail_url.split("?")
    stem = path.removesuffix(".jpg")
    found = asset.thumbnail_sources()
    assert json.loads(json.dumps(found)) == {
        "src": asset.thumbnail_url,
        "width": 192,
        "height": 256,
        "srcset": f"{asset.thumbnail_url} 1x, {stem}@2x.jpg?{query} 2x",
        "sources": [
            {"type": "image/avif", "srcset": f"{stem}.avif?{query} 1x"},
            {
                "type": "image/webp",
                "srcset": f"{stem}.webp?{query} 1x, {stem}@2x.webp?{query} 2x",
            },
        ],
        "placeholder": "",
    }
    large = asset.thumbnail_sources("large")
    assert (large["src"], large["width"]) == (f"{stem}-large.jpg?{query}", 768)
    assert [source["type"] for source in large["sources"]] == ["image/webp"]


def test_sources__of_a_recorded_thumbnail_are_what_is_recorded() -> None:
    asset = photo(
        thumbnail_path="82/12345.jpg",
        thumbnail_width=256,
        thumbnail_height=192,
        thumbnail_variants={"@2x.jpg": [300, 225, 9000]},
    )
    found = asset.thumbnail_sources("large")  # there is none by that name
    assert (found["src"], found["width"], found["height"]) == (asset.thumbnail_url, 256, 192)
    assert found["srcset"].endswith("@2x.jpg?" + asset.thumbnail_url.split("?")[1] + " 1.17x")
    assert found["sources"] == []


@pytest.mark.parametrize(
    ("columns", "size", "srcset"),
    [
        # The original is no larger, so all densities are the same.
        ({"width": 200, "height": 100}, (200, 100), ""),
        ({"width": None, "height": None}, (None, None), "2x"),
    ],
)
def test_sources__of_small_and_unknown_originals(
    columns: dict[str, object], size: tuple[int | None, int | None], srcset: str
) -> None:
    found = photo(**columns).thumbnail_sources()
    assert (found["width"], found["height"]) == size
    assert found["srcset"][-2:] == srcset


def test_sources__of_an_unknown_size_are_those_of_the_thumbnail() -> None:
    """A page stands whatever the settings are."""
    assert photo().thumbnail_sources("huge") == photo().thumbnail_sources()


def test_sources__by_width_are_of_all_sizes() -> None:
    asset = photo()
    path, query = asset.thumbnail_url.split("?")
    stem = path.removesuffix(".jpg")
    found = asset.thumbnail_sources("large", by_width=True)
    assert (found["src"], found["width"]) == (f"{stem}-large.jpg?{query}", 1024)
    assert found["srcset"] == (
        f"{stem}.jpg?{query} 256w, {stem}@2x.jpg?{query} 512w, {stem}-large.jpg?{query} 1024w"
    )
    assert [source["srcset"].count("w, ") for source in found["sources"]] == [0, 2]
    unknown = photo(width=None, height=None).thumbnail_sources(by_width=True)
    assert (unknown["srcset"], unknown["sources"]) == ("", [])


@pytest.mark.parametrize(
    ("suffix", "found"),
    [("@2x.webp", "@2x.webp"), (".jpg", ".jpg"), ("-huge.jpg", ".jpg"), ("", ".jpg")],
)
def test_variant_url__is_the_thumbnails_if_there_is_none(suffix: str, found: str) -> None:
    path, query = photo().thumbnail_url.split("?")
    assert photo().variant_url(suffix) == f"{path.removesuffix('.jpg')}{found}?{query}"

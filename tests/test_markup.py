"""Thumbnails in templates: what the tags write, in Django's language and in Jinja2."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.files.storage import Storage, storages
from django.template import engines
from django.template.backends.jinja2 import Jinja2
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.processes import ROOT
from thumbnails import markup
from thumbnails.models import ImageAsset, State, recipe_in_force

VARIANTS = "@2x.jpg=512, .webp=256, @2x.webp=512, .avif=256, -large.jpg=1024, -large.webp=1024"

Render = Callable[..., str]


@pytest.fixture(autouse=True)
def variants(settings: Settings) -> None:
    settings.THUMBNAIL_VARIANTS = VARIANTS


def django(tag: str, **context: Any) -> str:
    template = engines["django"].from_string(f"{{% load thumbnails %}}{{% {tag} %}}")
    return template.render(context)


def jinja2_engine() -> Jinja2:
    options = {"extensions": ["thumbnails.jinja2.ThumbnailsExtension"]}
    return Jinja2({"NAME": "jinja", "DIRS": [], "APP_DIRS": False, "OPTIONS": options})


def jinja2(call: str, **context: Any) -> str:
    return jinja2_engine().from_string(f"{{{{ {call} }}}}").render(context)


@pytest.fixture
def asset() -> ImageAsset:
    """One of which nothing is saved, and whose thumbnail is missing: no test here may query."""
    return ImageAsset(
        pk=12345, original="a/<red>_boat.jpg", width=4000, height=3000, source_version="1-1"
    )


def url(asset: ImageAsset, suffix: str = ".jpg") -> str:
    return asset.thumbnail_url.replace(".jpg", suffix)


def test_thumbnail__is_an_image_with_its_densities(asset: ImageAsset) -> None:
    assert django("thumbnail asset", asset=asset) == (
        f'<img src="{url(asset)}" srcset="{url(asset)} 1x, {url(asset, "@2x.jpg")} 2x"'
        ' width="256" height="192" loading="lazy" decoding="async" alt="&lt;red&gt; boat">'
    )


def test_picture__has_a_source_for_each_format_the_best_first(asset: ImageAsset) -> None:
    shown = django('picture asset class="wide"', asset=asset)
    img = django('thumbnail asset class="wide"', asset=asset)
    assert shown == (
        "<picture>"
        f'<source type="image/avif" srcset="{url(asset, ".avif")} 1x">'
        f'<source type="image/webp" srcset="{url(asset, ".webp")} 1x, {url(asset, "@2x.webp")} 2x">'
        f"{img}</picture>"
    )


def test_sizes__let_the_browser_choose_by_width(asset: ImageAsset) -> None:
    shown = django('picture asset size="large" sizes="50vw"', asset=asset)
    found = asset.thumbnail_sources("large", by_width=True)
    webp = found["sources"][1]["srcset"]
    assert f'<source type="image/webp" srcset="{webp}" sizes="50vw">' in shown
    assert f'<img src="{found["src"]}" srcset="{found["srcset"]}" width="1024"' in shown
    assert shown.endswith(' sizes="50vw"></picture>')


class Attributes(HTMLParser):
    """Those of the first tag, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found = self.found or attrs


DEFAULTS = {"width": "256", "height": "192", "loading": "lazy", "decoding": "async"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", {**DEFAULTS, "alt": "<red> boat"}),
        ('alt=""', {**DEFAULTS, "alt": ""}),
        (
            'alt="" data_id=7 aria_label="x"',
            {**DEFAULTS, "alt": "", "data-id": "7", "aria-label": "x"},
        ),
        ('alt="" hidden=True itemprop=False', {**DEFAULTS, "alt": "", "hidden": None}),
        (
            'alt="" loading=None decoding=None width=1024',
            {"alt": "", "height": "192", "width": "1024"},
        ),
        ("alt=hostile", {**DEFAULTS, "alt": '"><script>'}),
        ("alt=hostile|safe", {**DEFAULTS, "alt": '"><script>'}),
        ("alt='\"Tom &amp; Jerry\"'", {**DEFAULTS, "alt": '"Tom & Jerry"'}),
    ],
)
def test_attributes__are_added_and_replace_those_of_the_tag(
    asset: ImageAsset, settings: Settings, given: str, found: dict[str, str | None]
) -> None:
    settings.THUMBNAIL_VARIANTS = ""
    settings.USE_THOUSAND_SEPARATOR = True
    html = django(f"thumbnail asset {given}", asset=asset, hostile='"><script>')
    shown = Attributes(html).found
    assert sorted(shown) == sorted({"src": url(asset), **found}.items())


@pytest.mark.parametrize("name", ["", "on load", 'a"', "a>", "a/b", "a=b", "a\0"])
def test_attributes__of_other_names_are_refused(asset: ImageAsset, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of an attribute"):
        markup.thumbnail(asset, size="", **{name: "x"})


@pytest.mark.parametrize("render", [django, jinja2])
def test_thumbnail_url__is_escaped(
    asset: ImageAsset, monkeypatch: pytest.MonkeyPatch, render: Render
) -> None:
    monkeypatch.setattr(ImageAsset, "thumbnail_url", "/x.jpg?v=1&stale=1")
    call = "thumbnail_url asset" if render is django else "thumbnail_url(asset)"
    assert render(call, asset=asset) == "/x.jpg?v=1&amp;stale=1"
    call = "picture asset" if render is django else "picture(asset)"
    assert "1&amp;stale=1 2x" in render(call, asset=asset)
    assert "&stale" not in render(call, asset=asset)


@pytest.mark.parametrize("tag", ["thumbnail", "picture", "thumbnail_url"])
def test_tags__of_nothing_are_empty(tag: str) -> None:
    for nothing in (None, "", ImageAsset()):
        assert django(f"{tag} it", it=nothing) == jinja2(f"{tag}(it)", it=nothing) == ""
    assert django(f"{tag} undefined") == jinja2(f"{tag}(undefined)") == ""
    with pytest.raises(TypeError, match="of an ImageAsset, not of int"):
        django(f"{tag} it", it=7)


@pytest.mark.parametrize("tag", ["thumbnail", "picture"])
def test_jinja2__writes_the_same(asset: ImageAsset, tag: str) -> None:
    shown = jinja2(f"{tag}(asset, size='large', alt=it, class='wide')", asset=asset, it='"<')
    assert shown == django(f"{tag} asset size='large' alt=it class='wide'", asset=asset, it='"<')
    assert 'alt="&quot;&lt;" class="wide">' in shown


@pytest.mark.django_db
def test_addresses__that_a_page_has_are_answered(client: Client, make_asset: MakeAsset) -> None:
    """Of a thumbnail that is missing, and then of the recorded one."""
    make_asset(pictures.jpeg(pictures.scene(700, 1400)))
    for _ in range(2):
        asset = ImageAsset.objects.get()
        page = django("picture asset", asset=asset) + django(
            "picture asset sizes='9em'", asset=asset
        )
        addresses = set(re.findall(r'[" ](/thumbnails/[^" ,]+)', page))
        assert len(addresses) == len(VARIANTS.split(",")) + 1
        for address in addresses:
            answer = client.get(unescape(address))
            assert (answer.status_code, "immutable" in answer["Cache-Control"]) == (200, True)
            assert answer["Content-Type"].removeprefix("image/") in address.replace("jpg", "jpeg")


def test_document__examples_work(asset: ImageAsset) -> None:
    page = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```html\+(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    for engine, shown in (
        (engines["django"], 'content="{}"'),
        (jinja2_engine(), "\n{}"),
    ):
        html = engine.from_string(blocks[engine.name]).render({"asset": asset})
        assert shown.format(url(asset, "-large.jpg")) in html


class Unreachable(Storage):
    """A storage that must not be used."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise AssertionError(f"The storage was asked for {name}.")


@pytest.mark.django_db
def test_tags__take_no_query_and_no_look_at_a_storage(
    make_asset: MakeAsset,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(3):
        make_asset()
    assets = list(ImageAsset.objects.all())
    for number, asset in enumerate(assets):  # missing, fresh and stale
        asset.thumbnail_path = asset.thumbnail_name if number else ""
        asset.thumbnail_width, asset.thumbnail_height = (64, 48) if number else (None, None)
        asset.thumbnail_recipe = recipe_in_force().digest if number == 1 else "0ld"
        asset.thumbnail_source = asset.source_version
        asset.thumbnail_variants = {"@2x.jpg": [128, 96, 900], ".webp": [64, 48, 900]}
    assert [asset.state for asset in assets] == [State.MISSING, State.FRESH, State.STALE]
    settings.STORAGES = {
        **settings.STORAGES,
        **{alias: {"BACKEND": f"{__name__}.Unreachable"} for alias in ("originals", "thumbnails")},
    }
    monkeypatch.setattr(ImageAsset._meta.get_field("original"), "storage", storages["originals"])
    with django_assert_num_queries(0):
        for asset in assets:
            assert escape(url(asset)) in django("thumbnail asset", asset=asset)
            assert escape(url(asset)) in django("picture asset", asset=asset)
            shown = django("thumbnail_url asset '@2x.jpg'", asset=asset)
            assert shown == escape(url(asset, "@2x.jpg"))

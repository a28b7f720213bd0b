"""Placeholders: hashes that other decoders read, made with the thumbnail and shown by pages."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset
from thumbnails.markup import thumbnail
from thumbnails.models import ImageAsset
from thumbnails.rendering import placeholder_url
from thumbnails.rendering.thumbhash import SHOWN_PX, decode, encode
from thumbnails.upkeep.images import freshness, pools


def hash_of(image: Image.Image) -> bytes:
    return encode(*image.size, image.tobytes())


@pytest.mark.parametrize(
    ("size", "expected"),
    [  # by another encoder, thash 1.2.1
        ((16, 12), "a0f7010d86258850466845573463654508faa7a60c"),
        ((12, 16), "a0f701150614b71476662c1403133285010a59bd04"),
        ((16, 2), "5fd7092984524260766676880b7cf88385"),
    ],
)
def test_encode__is_the_format_that_others_read(size: tuple[int, int], expected: str) -> None:
    width, height = size
    pixels = bytes((7 * i * i // 40 + 13 * i) % 256 for i in range(3 * width * height))
    assert encode(width, height, pixels).hex() == expected


@pytest.mark.parametrize("size", [(16, 12), (12, 16), (16, 1), (5, 16)])
def test_decode__shows_the_colours_in_their_places(size: tuple[int, int]) -> None:
    width, height, pixels = decode(hash_of(pictures.scene(*size)))
    shown = Image.frombytes("RGB", (width, height), pixels)
    assert max(shown.size) == SHOWN_PX
    assert (width > height) == (size[0] > size[1])
    if min(size) > 1:
        assert pictures.corners(shown.resize((16, 16))) == pictures.UPRIGHT


@given(st.binary(max_size=30))
def test_placeholder__of_any_bytes_is_a_picture_or_nothing(content: bytes) -> None:
    url = placeholder_url(base64.b64encode(content).decode())
    if url:
        kind, _, data = url.partition(",")
        assert kind == "data:image/png;base64"
        assert max(pictures.opened(base64.b64decode(data)).size) == SHOWN_PX


@pytest.mark.parametrize("text", ["", "x", "no base64!", "AAAA", "é"])
def test_placeholder__of_what_is_no_hash_is_empty(text: str) -> None:
    assert placeholder_url(text) == ""


# --- with the thumbnail ---------------------------------------------------------------------------


def refreshed(asset: ImageAsset) -> ImageAsset:
    freshness.refresh_now(asset.pk, pools.web_pool())
    asset.refresh_from_db()
    return asset


@pytest.mark.django_db
@pytest.mark.parametrize(
    "build", [pictures.jpeg, pictures.transparent_png, lambda: pictures.jpeg(mode="L")]
)
def test_hash__is_made_with_the_thumbnail_and_shown_by_the_tag(
    make_asset: MakeAsset, settings: Settings, build: Callable[[], bytes]
) -> None:
    asset = refreshed(make_asset(build()))
    assert asset.thumbnail_hash == asset.thumbnail_sources()["placeholder"] == ""
    assert "style" not in thumbnail(asset)
    fingerprint = asset.fingerprint
    settings.THUMBNAIL_PLACEHOLDERS = True
    assert refreshed(asset).thumbnail_hash == ""  # it is fresh
    ImageAsset.objects.update(thumbnail_recipe="older")
    asset = refreshed(asset)
    assert asset.fingerprint == fingerprint
    placeholder = placeholder_url(asset.thumbnail_hash)
    assert placeholder
    assert asset.thumbnail_sources()["placeholder"] == placeholder
    assert f' style="background:url({placeholder}) center/cover"' in thumbnail(asset)
    assert "style" not in thumbnail(asset, style=None)
    freshness.purge_now(asset.pk)
    asset.refresh_from_db()
    assert asset.thumbnail_hash == ""

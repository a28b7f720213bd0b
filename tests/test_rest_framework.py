"""Thumbnails in serializers of Django REST framework."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import Settings
from rest_framework import serializers
from rest_framework.schemas.openapi import AutoSchema

from thumbnails.models import ImageAsset
from thumbnails.rest_framework import ThumbnailField


class ProductSerializer(serializers.Serializer):
    name = serializers.CharField()
    photo = ThumbnailField()
    poster = ThumbnailField(source="photo", size="large")
    others = ThumbnailField(many=True, size="large")


@pytest.fixture
def asset(settings: Settings) -> ImageAsset:
    """Of which nothing is saved: no test here may query."""
    settings.THUMBNAIL_VARIANTS = "@2x.jpg=512, .webp=256, -large.jpg=1024"
    return ImageAsset(pk=12345, original="boat.jpg", width=4000, height=3000, source_version="1-1")


def serialized(photo: ImageAsset | None, **context: Any) -> dict[str, Any]:
    product = SimpleNamespace(name="Boat", photo=photo, others=[photo] if photo else [])
    return {**ProductSerializer(product, context=context).data}


def test_field__is_what_a_page_needs(asset: ImageAsset) -> None:
    assert serialized(asset) == {
        "name": "Boat",
        "photo": asset.thumbnail_sources(),
        "poster": asset.thumbnail_sources("large"),
        "others": [asset.thumbnail_sources("large")],
    }


def test_field__has_absolute_addresses_in_a_request(asset: ImageAsset) -> None:
    found = serialized(asset, request=RequestFactory().get("/products/"))["photo"]
    url = f"http://testserver{asset.thumbnail_url}"
    double, webp = (url.replace(".jpg", suffix) for suffix in ("@2x.jpg", ".webp"))
    assert found == {
        **asset.thumbnail_sources(),
        "src": url,
        "srcset": f"{url} 1x, {double} 2x",
        "sources": [{"type": "image/webp", "srcset": f"{webp} 1x"}],
    }


@pytest.mark.parametrize("nothing", [None, ImageAsset()])
def test_field__of_nothing_is_null(nothing: ImageAsset | None) -> None:
    found = serialized(nothing)
    assert (found["photo"], found["poster"]) == (None, None)


def test_field__is_read_only_and_described(asset: ImageAsset) -> None:
    """By what generators of OpenAPI documents go by."""
    described = AutoSchema().map_serializer(ProductSerializer())["properties"]["photo"]
    assert described["type"] == "object"
    assert described["readOnly"]
    assert described["nullable"]
    assert described["properties"].keys() == asset.thumbnail_sources().keys()
    given = ProductSerializer(data={"name": "Boat", "photo": {"src": "/x"}, "others": [7]})
    assert given.is_valid()
    assert given.validated_data == {"name": "Boat"}

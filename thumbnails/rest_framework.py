"""Thumbnails in serializers of Django REST framework."""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers

from thumbnails.markup import asset_of


class SourceSerializer(serializers.Serializer):
    """A `<source>` of a `<picture>`."""

    type = serializers.CharField()
    srcset = serializers.CharField()


class ThumbnailField(serializers.Serializer):
    """An asset as its `thumbnail_sources()`, read-only; null if there is none. A list of them with
    `many=True`.

    With a request in the serializer's context, all URLs are absolute. `size` is the name of a size
    of THUMBNAIL_VARIANTS. Its fields are declared for generators of OpenAPI documents.
    """

    src = serializers.URLField()
    width = serializers.IntegerField(allow_null=True)
    height = serializers.IntegerField(allow_null=True)
    srcset = serializers.CharField(allow_blank=True)
    sources = SourceSerializer(many=True)
    placeholder = serializers.CharField(allow_blank=True)

    def __init__(self, *args: Any, size: str = "", **kwargs: Any) -> None:
        self.size = size
        super().__init__(*args, **{"read_only": True, "allow_null": True, **kwargs})

    @classmethod
    def many_init(cls, *args: Any, **kwargs: Any) -> serializers.ListSerializer:
        return super().many_init(*args, **{"read_only": True, **kwargs})

    def to_representation(self, value: object) -> dict[str, Any] | None:
        asset = asset_of(value)
        if asset is None:
            return None
        found: dict[str, Any] = {**asset.thumbnail_sources(self.size)}
        request = self.context.get("request")
        return found if request is None else _absolute(found, request.build_absolute_uri)


def _absolute(found: dict[str, Any], absolute: Callable[[str], str]) -> dict[str, Any]:
    def candidates(srcset: str) -> str:
        split = (candidate.split(" ") for candidate in srcset.split(", ") if candidate)
        return ", ".join(f"{absolute(url)} {descriptor}" for url, descriptor in split)

    return {
        **found,
        "src": absolute(found["src"]),
        "srcset": candidates(found["srcset"]),
        "sources": [
            {**source, "srcset": candidates(source["srcset"])} for source in found["sources"]
        ],
    }

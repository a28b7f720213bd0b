"""The public thumbnails; the gallery and the API have modules of URLs of their own."""

from django.urls import path, register_converter

from thumbnails import views
from thumbnails.rendering import SUFFIX


class AssetIdConverter:
    """A positive id without leading zeros that fits a bigint."""

    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


class ShardConverter:
    regex = "[0-9a-f]{2}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class SuffixConverter(ShardConverter):
    """Of a variant."""

    regex = SUFFIX


# A project's own converters may not have the same names.
register_converter(AssetIdConverter, "thumbnails_asset_id")
register_converter(ShardConverter, "thumbnails_shard")
register_converter(SuffixConverter, "thumbnails_suffix")

app_name = "thumbnails"
urlpatterns = [
    path(
        "thumbnails/<thumbnails_shard:shard>/<thumbnails_asset_id:asset_id>.jpg",
        views.thumbnail,
        name="thumbnail",
    ),
    path(
        "thumbnails/<thumbnails_shard:shard>/<thumbnails_asset_id:asset_id>"
        "<thumbnails_suffix:suffix>",
        views.thumbnail,
        name="variant",
    ),
]

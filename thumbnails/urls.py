from django.urls import path, register_converter

from thumbnails import api, views


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


register_converter(AssetIdConverter, "asset_id")
register_converter(ShardConverter, "shard")

app_name = "thumbnails"
urlpatterns = [
    path("thumbnails/<shard:shard>/<asset_id:asset_id>.jpg", views.thumbnail, name="thumbnail"),
    path("", views.gallery, name="gallery"),
    path("api/v1/", api.urls),
]

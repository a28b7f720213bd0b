"""The admin's log of what users do to images."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest

from thumbnails.batching import batched
from thumbnails.models import ImageAsset

if TYPE_CHECKING:
    from django.contrib.auth.models import User

AT_ONCE = 1_000


def log_changes(request: HttpRequest, asset_ids: Iterable[int], text: str) -> None:
    """Write to the history of each of these images that the user did this to it."""
    user_id = cast("User", request.user).pk
    for some in batched(asset_ids, AT_ONCE):
        assets = ImageAsset.objects.only("original").filter(pk__in=some)
        LogEntry.objects.log_actions(user_id, assets, CHANGE, text)

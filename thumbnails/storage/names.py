"""Names of thumbnails in the cache. Pure functions: no storage, no settings."""

import hashlib
import re

SHARDS = tuple(f"{number:02x}" for number in range(256))

_NAME = re.compile(r"(?P<shard>[0-9a-f]{2})/(?P<asset_id>[1-9][0-9]{0,18})\.jpg")


def shard_for(asset_id: int) -> str:
    """The first two hexadecimal digits of md5(str(asset_id)), which spread ids evenly."""
    return hashlib.md5(str(asset_id).encode(), usedforsecurity=False).hexdigest()[:2]


def name_for(asset_id: int) -> str:
    """The thumbnail's name in the cache, which is also the path of its public URL."""
    return f"{shard_for(asset_id)}/{asset_id}.jpg"


def asset_id_of(name: str) -> int | None:
    """The id of the asset whose thumbnail has this name; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    asset_id = int(match["asset_id"])
    return asset_id if shard_for(asset_id) == match["shard"] else None

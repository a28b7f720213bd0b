"""Names of thumbnails and their variants in the cache. Pure functions: no storage, no settings."""

import hashlib
import re

from thumbnails.rendering import SUFFIX, THUMBNAIL

SHARDS = tuple(f"{number:02x}" for number in range(256))

_NAME = re.compile(
    rf"(?P<shard>[0-9a-f]{{2}})/(?P<asset_id>[1-9][0-9]{{0,18}})(?P<suffix>{SUFFIX})"
)


def shard_for(asset_id: int) -> str:
    """The first two hexadecimal digits of md5(str(asset_id)), which spread ids evenly."""
    return hashlib.md5(str(asset_id).encode(), usedforsecurity=False).hexdigest()[:2]


def name_for(asset_id: int, suffix: str = THUMBNAIL) -> str:
    """The name in the cache of the thumbnail, or of its variant with this suffix, which is also
    the path of its public URL."""
    return f"{shard_for(asset_id)}/{asset_id}{suffix}"


def parse(name: str) -> tuple[int, str] | None:
    """The id of the asset whose thumbnail or variant has this name, and the suffix; None for any
    other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    asset_id = int(match["asset_id"])
    return (asset_id, match["suffix"]) if shard_for(asset_id) == match["shard"] else None

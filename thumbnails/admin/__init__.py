"""The staff's door."""

from thumbnails.admin import assets, cache, runs, tokens

__all__ = ["assets", "cache", "runs", "tokens"]

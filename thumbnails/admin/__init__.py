"""The staff's door."""

from thumbnails.admin import assets, runs, tokens

__all__ = ["assets", "runs", "tokens"]

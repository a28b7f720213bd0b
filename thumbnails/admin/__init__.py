"""The app in the Django admin."""

from thumbnails.admin import assets, cache, runs, tokens

__all__ = ["assets", "cache", "runs", "tokens"]

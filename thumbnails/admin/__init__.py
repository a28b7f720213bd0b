"""The staff's door."""

from thumbnails.admin import assets, runs

__all__ = ["assets", "runs"]

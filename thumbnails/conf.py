"""The app's settings as one typed, validated value, read on first use and not at import."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

RENDER_MEMORY_AT_LEAST = 256 * 2**20
"""Python and Pillow with all their libraries take half of that before they open an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailSettings:
    """Each field is read from the Django setting that its docstring names."""

    size_px: int
    """THUMBNAIL_SIZE: the side of the square that a thumbnail fits in."""
    quality: int
    """THUMBNAIL_QUALITY: of the JPEG, 1 to 95 (Pillow's useful range)."""
    max_pixels: int
    """THUMBNAIL_MAX_PIXELS: an original with more is refused before it is decoded."""
    max_bytes: int
    """THUMBNAIL_MAX_BYTES: an original of a larger file is refused before it is read."""
    render_seconds: int
    """THUMBNAIL_RENDER_SECONDS: time limit for reading an original, and for decoding it."""
    render_memory_bytes: int
    """THUMBNAIL_RENDER_MEMORY: address space of a process that decodes."""
    web_renders: int
    """THUMBNAIL_WEB_RENDERS: images that one web process decodes at once."""
    web_waiting: int
    """THUMBNAIL_WEB_WAITING: requests that may wait for one of these, per web process."""
    renders_per_minute: int
    """THUMBNAIL_RENDERS_PER_MINUTE: synchronous renders over the API, per user."""
    dir_group_writable: bool
    """THUMBNAIL_DIR_GROUP_WRITABLE: the cache's folder is shared by the users of its group."""


def _whole_number(name: str, default: int, lowest: int, highest: int) -> int:
    value: Any = getattr(settings, name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ImproperlyConfigured(
            f"{name} must be a whole number from {lowest:,} to {highest:,}, not {value!r}."
        )
    return value


def _flag(name: str, *, default: bool) -> bool:
    value: Any = getattr(settings, name, default)
    if not isinstance(value, bool):
        raise ImproperlyConfigured(f"{name} must be True or False, not {value!r}.")
    return value


@lru_cache(maxsize=1)
def current() -> ThumbnailSettings:
    """Returns the current settings. Raises ImproperlyConfigured, which names the setting."""
    for alias in ("originals", "thumbnails"):
        if alias not in settings.STORAGES:
            raise ImproperlyConfigured(f"STORAGES has no {alias!r}: thumbnails needs one.")
    return ThumbnailSettings(
        size_px=_whole_number("THUMBNAIL_SIZE", 256, 1, 4096),
        quality=_whole_number("THUMBNAIL_QUALITY", 85, 1, 95),
        max_pixels=_whole_number("THUMBNAIL_MAX_PIXELS", 200_000_000, 1, 10**10),
        max_bytes=_whole_number("THUMBNAIL_MAX_BYTES", 200 * 2**20, 1, 2**40),
        render_seconds=_whole_number("THUMBNAIL_RENDER_SECONDS", 30, 1, 3600),
        render_memory_bytes=_whole_number(
            "THUMBNAIL_RENDER_MEMORY", 2**30, RENDER_MEMORY_AT_LEAST, 2**40
        ),
        web_renders=_whole_number("THUMBNAIL_WEB_RENDERS", 1, 1, 64),
        web_waiting=_whole_number("THUMBNAIL_WEB_WAITING", 5, 0, 1000),
        renders_per_minute=_whole_number("THUMBNAIL_RENDERS_PER_MINUTE", 60, 1, 1_000_000),
        dir_group_writable=_flag("THUMBNAIL_DIR_GROUP_WRITABLE", default=False),
    )


@receiver(setting_changed)
def _forget(**_: object) -> None:
    current.cache_clear()

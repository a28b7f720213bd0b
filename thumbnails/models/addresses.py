"""Public addresses of the cache's files."""

from functools import lru_cache

from django.urls import get_resolver, get_script_prefix, get_urlconf, reverse
from django.utils.translation import get_language

EXAMPLE = "00/1.jpg"


def public_path(name: str) -> str:
    """Returns the path of a file's public URL, by its name in the cache (`82/12345@2x.webp`).

    As `reverse` does for the current request, but a page with a hundred of them does it once.
    Raises NoReverseMatch if the project's URLs do not include `thumbnails.urls`.
    """
    return _folder(get_resolver(get_urlconf()), get_script_prefix(), get_language()) + name


@lru_cache(maxsize=64)
def _folder(*_: object) -> str:
    """Cached by all that `reverse` depends on. After Django's `clear_url_caches` the resolver is
    another one."""
    shard, name = EXAMPLE.split("/")
    example = reverse("thumbnails:thumbnail", args=[shard, name.removesuffix(".jpg")])
    return example.removesuffix(EXAMPLE)

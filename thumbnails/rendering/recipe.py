"""How a thumbnail is made, as a value with a digest."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache

RENDERER_VERSION = 2
"""Raise it with every change that alters rendered images: all thumbnails become stale."""

DIGEST_CHARACTERS = 16  # 64 bits: enough for some dozen recipes, and one file per asset

MEDIA_TYPES = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
"""By the file extension of a thumbnail or variant."""

THUMBNAIL = ".jpg"
"""The suffix of the thumbnail itself."""
SUFFIX = r"(?:-[a-z0-9]{1,20})?(?:@[2-9]x)?\.(?:jpg|webp|avif)"
"""Regular expression of a variant's suffix. It also matches `.jpg`, the thumbnail itself.

Lowercase, for file systems that ignore case. It cannot be taken for a part of the asset's id, nor
an id and a suffix for another id and suffix.
"""
_PARTS = re.compile(r"(?:-(?P<name>[a-z0-9]+))?(?:@[2-9]x)?\.(?P<extension>[a-z]+)")


@dataclass(frozen=True, order=True, slots=True)
class Variant:
    """A further density, format or size of the thumbnail, in a file of its own."""

    suffix: str
    """What its file's name has in place of `.jpg`: `.webp`, `@2x.jpg`, `-large@2x.webp`."""
    size_px: int
    """Side of the square that it fits in."""

    @property
    def name(self) -> str:
        """The named size that it belongs to: `large`. Empty for that of the thumbnail."""
        return _parts(self.suffix)["name"] or ""

    @property
    def extension(self) -> str:
        """One of MEDIA_TYPES, without a dot."""
        return _parts(self.suffix)["extension"]


@lru_cache(maxsize=256)  # a page with a hundred thumbnails asks for each of its variants
def _parts(suffix: str) -> "re.Match[str]":
    match = _PARTS.fullmatch(suffix)
    if match is None:
        raise ValueError(f"{suffix!r} is not a variant's suffix")
    return match


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything besides the original that determines a thumbnail's bytes."""

    size_px: int = 256
    """Side of the square that the thumbnail fits in."""
    quality: int = 85
    """JPEG quality, 1 to 95."""
    background: tuple[int, int, int] = (255, 255, 255)
    """sRGB colour under transparent pixels."""
    renderer: int = RENDERER_VERSION
    variants: tuple[Variant, ...] = ()
    """In order of their suffixes."""
    cmyk_profile: str = ""
    """Digest of the colour profile of CMYK that has none of its own; empty: it is converted
    without one."""

    @property
    def sizes_px(self) -> set[int]:
        """The thumbnail's size and those of the variants."""
        return {self.size_px, *(variant.size_px for variant in self.variants)}

    @cached_property
    def digest(self) -> str:
        """Identifies this recipe: 16 hexadecimal digits."""
        values = asdict(self)
        for newer in ("variants", "cmyk_profile"):  # older are the digests of recipes without
            if not values[newer]:
                del values[newer]
        return _digest(json.dumps(values, sort_keys=True).encode())

    def fingerprint(self, source_version: str) -> str:
        """Identifies the thumbnail of an original of that version: 16 hexadecimal digits."""
        return fingerprint_of(self.digest, source_version)


def fingerprint_of(recipe_digest: str, source_version: str) -> str:
    """As `Recipe.fingerprint`, by the recipe's digest."""
    return _digest(f"{recipe_digest}\n{source_version}".encode())


def profile_digest(content: bytes) -> str:
    """Identifies a colour profile by its bytes: 16 hexadecimal digits; empty for none."""
    return _digest(content) if content else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]


def fit_inside(width: int, height: int, size_px: int) -> tuple[int, int]:
    """Returns width and height in pixels within a square of `size_px`: same aspect ratio, never
    enlarged."""
    scale = min(1.0, size_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))

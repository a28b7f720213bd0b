"""How a thumbnail is made, as a value with a digest."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

RENDERER_VERSION = 1
"""Raise it with every change that alters rendered images: all thumbnails become stale."""

DIGEST_CHARACTERS = 16  # 64 bits: enough for some dozen recipes, and one file per asset


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

    @cached_property
    def digest(self) -> str:
        """Identifies this recipe: 16 hexadecimal digits."""
        return _digest(json.dumps(asdict(self), sort_keys=True))

    def fingerprint(self, source_version: str) -> str:
        """Identifies the thumbnail of an original of that version: 16 hexadecimal digits."""
        return fingerprint_of(self.digest, source_version)


def fingerprint_of(recipe_digest: str, source_version: str) -> str:
    """As `Recipe.fingerprint`, by the recipe's digest."""
    return _digest(f"{recipe_digest}\n{source_version}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def fit_inside(width: int, height: int, size_px: int) -> tuple[int, int]:
    """Returns width and height in pixels within a square of `size_px`: same aspect ratio, never
    enlarged."""
    scale = min(1.0, size_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))

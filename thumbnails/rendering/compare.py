"""Comparing the pixels of two thumbnails."""

import io
from dataclasses import dataclass

from PIL import Image, ImageChops

from thumbnails.rendering.inspection import OWN_FORMATS, open_image, translated_errors

MARK = (255, 0, 128)
"""A colour that is rare in photos."""
NOTICEABLE = 16
"""Of 255, in any channel: another JPEG quality mostly changes less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two images differ."""

    share: float
    """Share of the pixels that differ noticeably, 0 to 1."""
    picture: bytes | None
    """PNG: the new one, pale, with those pixels marked. None if the sizes differ."""


def compare(old: bytes, new: bytes, *, max_pixels: int) -> Difference:
    """Compare two thumbnails. Raises ThumbnailError for a damaged one."""
    left, right = (_decoded(content, max_pixels=max_pixels) for content in (old, new))
    if left.size != right.size:
        return Difference(share=1.0, picture=None)
    bands = ImageChops.difference(left, right).split()
    largest = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    mask = largest.point([255 if value >= NOTICEABLE else 0 for value in range(256)])
    share = mask.histogram()[255] / (mask.width * mask.height)
    marked = Image.blend(right, Image.new("RGB", right.size, "white"), 0.6)
    marked.paste(MARK, mask=mask)
    content = io.BytesIO()
    marked.save(content, "PNG")
    return Difference(share=share, picture=content.getvalue())


def _decoded(content: bytes, *, max_pixels: int) -> Image.Image:
    with translated_errors(io.BytesIO(content)) as watched:
        return open_image(watched, max_pixels=max_pixels, formats=OWN_FORMATS).convert("RGB")

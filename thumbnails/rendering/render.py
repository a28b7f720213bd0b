"""Rendering a thumbnail from an original."""

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, BinaryIO, cast

from PIL import Image

from thumbnails.exceptions import Unreadable
from thumbnails.rendering import pixels, thumbhash
from thumbnails.rendering.facts import Note
from thumbnails.rendering.formats import DEFAULT_FORMATS
from thumbnails.rendering.inspection import (
    TURNED,
    UPRIGHT,
    WatchedFile,
    check_reduced,
    check_scans,
    open_image,
    orientation_of,
    translated_errors,
)
from thumbnails.rendering.recipe import Recipe, fit_inside
from thumbnails.rendering.stamp import make_stamp
from thumbnails.rendering.truncated import loaded_in_part

REDUCING_GAP = 2.0
"""What reduces cheaply, a decoder or the averaging of blocks, leaves at least this many times the
thumbnail's size to LANCZOS; so does libvips. At 1.5 text and line screens show false patterns."""

AVIF_LOWER = 20
"""An AVIF of so much lower a quality is as close to the original as a JPEG, and half its size."""

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation: what turns the stored pixels upright (CIPA DC-008, 4.6.5.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A file to be shown, and its size in pixels."""

    content: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering(Encoded):
    """A rendered thumbnail, a JPEG, and its variants."""

    variants: dict[str, Encoded] = field(default_factory=dict)
    """By suffix, in the recipe's order."""
    thumb_hash: str = ""
    """Its ThumbHash in base64, if that was asked for."""
    note: str = ""
    """A Note if it shows a part of the original; empty if it shows all."""


def render(
    file: BinaryIO,
    recipe: Recipe,
    *,
    fingerprint: str,
    max_pixels: int,
    formats: tuple[str, ...] = DEFAULT_FORMATS,
    with_hash: bool = False,
    show_truncated: bool = False,
    cmyk_profile: bytes = b"",
) -> Rendering:
    """Render the thumbnail of the original in `file`, with `fingerprint` as its stamp, and the
    recipe's variants; with `show_truncated` also of what is there of a truncated JPEG or PNG.

    `cmyk_profile` is the ICC profile whose digest the recipe has.

    Raises Unsupported, TooLarge or Unreadable for a bad original, StorageFailure if reading it
    fails.
    """
    attempt = partial(
        _render,
        file,
        recipe,
        fingerprint=fingerprint,
        max_pixels=max_pixels,
        formats=formats,
        with_hash=with_hash,
        cmyk_profile=cmyk_profile,
    )
    try:
        return attempt(in_part=False)
    except Unreadable as error:
        if not show_truncated:
            raise
        file.seek(0)
        try:
            return replace(attempt(in_part=True), note=Note.TRUNCATED.value)
        except Unreadable:
            raise error from None


def _render(
    file: BinaryIO,
    recipe: Recipe,
    *,
    fingerprint: str,
    max_pixels: int,
    formats: tuple[str, ...],
    with_hash: bool,
    cmyk_profile: bytes,
    in_part: bool,
) -> Rendering:
    with translated_errors(file) as watched:
        shown = small_images(
            watched,
            recipe,
            max_pixels=max_pixels,
            formats=formats,
            cmyk_profile=cmyk_profile,
            in_part=in_part,
        )
        encode = _Encoder(recipe.quality, make_stamp(fingerprint))
        thumbnail = encode("jpg", shown[recipe.size_px])
        return Rendering(
            content=thumbnail.content,
            width=thumbnail.width,
            height=thumbnail.height,
            variants={
                variant.suffix: encode(variant.extension, shown[variant.size_px])
                for variant in recipe.variants
            },
            thumb_hash=_hash_of(shown[recipe.size_px]) if with_hash else "",
        )


def _hash_of(image: Image.Image) -> str:
    size = fit_inside(*image.size, thumbhash.SAMPLES_PX)
    small = image.resize(size, Image.Resampling.BOX).convert("RGB")
    return base64.b64encode(thumbhash.encode(*size, small.tobytes())).decode()


def small_images(
    file: WatchedFile,
    recipe: Recipe,
    *,
    max_pixels: int,
    formats: tuple[str, ...] = DEFAULT_FORMATS,
    cmyk_profile: bytes = b"",
    in_part: bool = False,
) -> dict[int, Image.Image]:
    """Returns what is to be encoded for each of the recipe's sizes: upright, flat and in sRGB.

    `in_part`: of a truncated original what is there. To be called inside `translated_errors`.
    """
    size_px = max(recipe.sizes_px)
    decoded = open_image(
        file, max_pixels=max_pixels, formats=formats, size_px=size_px, reducible=True
    )
    check_scans(decoded, file)
    full_size = decoded.size
    reduced_size = _decode_reduced(decoded, size_px)
    check_reduced(decoded, file, full_size, decoded.size, max_pixels=max_pixels)
    if in_part:
        decoded = loaded_in_part(decoded)
        reduced_size = reduced_size or decoded.size
    if reduced_size is None:
        pixels.load(decoded, cast(BinaryIO, file))
        full_size = reduced_size = decoded.size  # Pillow turns a TIFF upright on loading
    orientation = orientation_of(decoded, decoded.getexif)
    profile = decoded.info.get("icc_profile")
    image = pixels.plain_pixels(decoded)
    shown: dict[int, Image.Image] = {}
    for size_px in sorted(recipe.sizes_px, reverse=True):
        size = fit_inside(*full_size, size_px)
        upright = size[::-1] if orientation in TURNED else size
        larger = _smallest_input(shown.values(), upright)
        if larger is not None:
            shown[size_px] = _resized(larger, upright, larger.size)
            continue
        small = _resized(image, size, reduced_size)
        small = pixels.in_srgb(small, profile, cmyk_profile)
        small = pixels.flattened(small, recipe.background)
        if orientation != UPRIGHT:
            small = small.transpose(TRANSPOSITIONS[orientation])
        shown[size_px] = small
    return shown


def _smallest_input(images: Iterable[Image.Image], size: tuple[int, int]) -> Image.Image | None:
    """The last of the images, which get smaller, that has that size, or is large enough for
    LANCZOS to scale it down once more."""
    at_least = REDUCING_GAP * max(size)
    found = [image for image in images if image.size == size or max(image.size) >= at_least]
    return found[-1] if found else None


def _resized(image: Image.Image, size: tuple[int, int], filled: tuple[float, float]) -> Image.Image:
    if image.size == size:
        return image
    box = 0, 0, *filled
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)


class _Encoder:
    """Encodes each size once in each format: variants of a small original are the same."""

    def __init__(self, quality: int, stamp: bytes) -> None:
        # Pillow copies no metadata by default, except a profile into an AVIF; a file without one
        # is sRGB.
        self._options: dict[str, dict[str, Any]] = {
            "jpg": {"format": "JPEG", "quality": quality, "optimize": True, "comment": stamp},
            # Twice as fast as the default method; files are up to 7 % larger.
            "webp": {"format": "WEBP", "quality": quality, "method": 2},
            "avif": {
                "format": "AVIF",
                "quality": max(1, quality - AVIF_LOWER),
                "speed": 8,
                "max_threads": 1,
                "icc_profile": b"",
            },
        }
        self._encoded: dict[tuple[str, tuple[int, int]], Encoded] = {}

    def __call__(self, extension: str, image: Image.Image) -> Encoded:
        key = extension, image.size
        if key not in self._encoded:
            content = io.BytesIO()
            image.save(content, **self._options[extension])
            self._encoded[key] = Encoded(
                content=content.getvalue(), width=image.width, height=image.height
            )
        return self._encoded[key]


def _decode_reduced(image: Image.Image, size_px: int) -> tuple[float, float] | None:
    """Let the decoder scale down, before anything is loaded.

    Returns the exact size of what it will decode, of which a last column or row may be filled in
    part: 522.125 pixels of 523. None if it cannot.

    The requested size has the image's aspect ratio: a square, as in `Image.thumbnail`, would
    limit the scaling of a panorama to that of its short side.
    """
    width, height = fit_inside(*image.size, size_px)
    wanted = math.ceil(width * REDUCING_GAP), math.ceil(height * REDUCING_GAP)
    drafted = image.draft(None, wanted)
    return None if drafted is None else drafted[1][2:]

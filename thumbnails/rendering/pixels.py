"""Converting pixels between colour modes: whatever Pillow decodes becomes flat sRGB."""

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO, cast

from PIL import Image, ImageChops, ImageCms, ImageMath, PngImagePlugin, TiffImagePlugin

from thumbnails.exceptions import StorageFailure, Unsupported

WHITE_IS_ZERO, CIELAB = 0, 8
"""Of a TIFF's PhotometricInterpretation."""
SEPARATE_PLANES = 2
"""Of a TIFF's PlanarConfiguration."""
HIGH_BYTES, LOW_BYTES = "RGB;16B", "RGB;16L"
"""Pillow's raw modes that take the first and the second byte of each channel of 16 bits."""
BY_LIBTIFF = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""Pillow's raw modes of big-endian numbers as they are stored, and in the machine's order, which
libtiff brings them to."""


def take_more_tiffs() -> None:
    """Have Pillow open 16-bit grey TIFFs whose zero is white in big-endian order, too, and 16-bit
    Lab as RGB.

    For processes that only render: `plain_pixels` inverts the grey ones as the little-endian ones,
    and takes Lab for what it is.
    """
    TiffImagePlugin.OPEN_INFO[b"MM", WHITE_IS_ZERO, (1,), 1, (16,), ()] = ("I;16B", "I;16B")
    for order, rawmode in ((b"II", "RGB;16L"), (b"MM", "RGB;16B")):
        TiffImagePlugin.OPEN_INFO[order, CIELAB, (1,), 1, (16, 16, 16), ()] = ("RGB", rawmode)


def load(image: Image.Image, file: BinaryIO) -> None:
    """Decode the pixels, which Pillow would misread of some files. `image` was opened from `file`.

    Raises Unsupported for kinds that it cannot decode, OSError and others as Pillow does.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _name_planes(image)
        _name_byte_order(image)
    if isinstance(image, PngImagePlugin.PngImageFile) and _has_16_bit_key(image):
        _load_16_bit_key(image, file)
    image.load()


def plain_pixels(image: Image.Image) -> Image.Image:
    """Returns it in a mode that can be resized: L, LA, RGB, RGBA, CMYK or LAB.

    Raises Unsupported for other modes.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        return _by_range(image)
    if "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "RGB" and _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0) == CIELAB:
        return _lab_of_bytes(image)
    if image.mode in ("P", "YCbCr", "HSV", "RGBX"):
        return image.convert("RGB")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        return image
    raise Unsupported(f"Pictures of colour mode {image.mode} cannot be shown.")


def in_srgb(image: Image.Image, profile: object, cmyk_profile: bytes = b"") -> Image.Image:
    """Returns it converted from its colour profile to L or RGB, with its alpha channel if it has
    one.

    Without a usable profile, grey is taken as it is, RGB as sRGB, and CMYK by `cmyk_profile`, or
    without that as inks that each absorb one of red, green and blue. Raises StorageFailure if
    `cmyk_profile` cannot be used.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    opaque = image if alpha is None else image.convert(image.mode.removesuffix("A"))
    converted = None
    if isinstance(profile, bytes):
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            converted = _transformed(opaque, _to_srgb(profile, opaque.mode))
    if converted is None:
        converted = _without_profile(opaque, cmyk_profile)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def flattened(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Returns it without its alpha channel, on the background."""
    if image.mode not in ("LA", "RGBA"):
        return image
    flat = Image.new("RGB", image.size, background)
    flat.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return flat


# --- 16-bit colour --------------------------------------------------------------------------------


def _name_planes(image: TiffImagePlugin.TiffImageFile) -> None:
    """Have the planes of an uncompressed TIFF unpacked as what they are.

    Pillow goes by the first letter alone of how a pixel is stored. Compressed ones are unpacked by
    libtiff, rightly.
    """
    if _tag(image, TiffImagePlugin.PLANAR_CONFIGURATION, 1) != SEPARATE_PLANES:
        return
    bits = _tag(image, TiffImagePlugin.BITSPERSAMPLE, (1,))
    order = "B" if image.tag_v2.prefix == b"MM" else "L"
    grey = _grey_as_stored(image) if len(bits) == 1 else None
    for number, tile in enumerate(image.tile):
        if tile.codec_name != "raw" or not isinstance(tile.args, tuple):
            continue
        letter, *rest = tile.args
        if grey is not None:
            image.tile[number] = tile._replace(args=(grey, *rest))
        elif set(bits) == {16} and image.mode == "CMYK":
            raise Unsupported("A TIFF in CMYK with planes of 16 bits cannot be shown.")
        elif set(bits) == {16}:
            image.tile[number] = tile._replace(args=(f"{letter};16{order}", *rest))


def _name_byte_order(image: TiffImagePlugin.TiffImageFile) -> None:
    """Have what libtiff decodes unpacked in its order. Pillow thinks of 16-bit numbers without a
    sign alone."""
    for number, tile in enumerate(image.tile):
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple):
            rawmode, *rest = tile.args
            image.tile[number] = tile._replace(args=(BY_LIBTIFF.get(rawmode, rawmode), *rest))


def _grey_as_stored(image: TiffImagePlugin.TiffImageFile) -> str | None:
    """Pillow's raw mode of a TIFF of one channel."""
    kind = (
        image.tag_v2.prefix,
        _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO),
        _tag(image, TiffImagePlugin.SAMPLEFORMAT, (1,)),
        _tag(image, TiffImagePlugin.FILLORDER, 1),
        _tag(image, TiffImagePlugin.BITSPERSAMPLE, (1,)),
        (),
    )
    _, rawmode = TiffImagePlugin.OPEN_INFO.get(kind, ("", None))
    return rawmode


def _has_16_bit_key(image: PngImagePlugin.PngImageFile) -> bool:
    """Whether a colour of 16 bits a channel stands for transparency (tRNS)."""
    rawmodes = [tile.args for tile in image.tile]
    return rawmodes == [HIGH_BYTES] and "transparency" in image.info


def _load_16_bit_key(image: PngImagePlugin.PngImageFile, file: BinaryIO) -> None:
    """Load it as RGBA. Pillow keeps the high bytes alone, so the low ones are decoded first."""
    key = image.info.pop("transparency")
    file.seek(0)
    low = Image.open(file, formats=["PNG"])
    low.tile = [tile._replace(args=LOW_BYTES) for tile in low.tile]
    low.load()
    opaque = _differs(low, [value % 256 for value in key])
    del low
    image.load()
    opaque = ImageChops.lighter(opaque, _differs(image, [value // 256 for value in key]))
    image.putalpha(opaque)


def _lab_of_bytes(image: Image.Image) -> Image.Image:
    """Lab of the high bytes of its channels, of which a and b have a sign, in Pillow's mode."""
    light, *colours = image.split()
    flip_sign = [value ^ 128 for value in range(256)]
    return Image.merge("LAB", [light, *(channel.point(flip_sign) for channel in colours)])


def _differs(image: Image.Image, colour: Sequence[int]) -> Image.Image:
    """255 where it has another colour, and 0 elsewhere."""
    tables = [[255 * (value != part) for value in range(256)] for part in colour]
    red, green, blue = image.point([*tables[0], *tables[1], *tables[2]]).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


# --- Grey of more than 8 bits ---------------------------------------------------------------------


def _from_16_bit(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits; Pillow's own conversion clips everything over 255 to white.

    One of its greys may mean transparency (PNG's tRNS).
    """
    bits = _tag(image, TiffImagePlugin.BITSPERSAMPLE, (16,))
    white = 2 ** min(16, bits[0]) - 1  # of a TIFF also 12 bits
    shades = [min(255, value * 255 // white) for value in range(65536)]
    if _is_white_zero(image):
        shades.reverse()
    wide = image.convert("I")
    grey = wide.point(shades, "L")
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return grey
    opaque = wide.point([0 if value == key else 255 for value in range(65536)], "L")
    return Image.merge("LA", (grey, opaque))


def _by_range(image: Image.Image) -> Image.Image:
    """Grey of floating point or 32-bit numbers to 8 bits, from its least one, black, to its
    greatest.

    Numbers that all lie from 0 to 1, or to 65,535 if they are whole, have that as their range.
    """
    highest = 1.0 if image.mode == "F" else 65_535.0
    numbers = _without_sign(image) if _is_unsigned(image) else image
    low, high = _range_of(numbers)
    if low >= 0 and high <= highest:
        low, high = 0.0, highest
    scale = 255 / ((high - low) or 1)
    # The conversion to L cuts off what is behind the point, hence the half.
    numbers = numbers if numbers.mode == "F" else numbers.convert("F")
    grey = numbers.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    return ImageChops.invert(grey) if _is_white_zero(image) else grey


def _range_of(image: Image.Image) -> tuple[float, float]:
    """The least and the greatest number, without those that are infinite or not a number."""
    low, high = (float(str(value)) for value in image.getextrema())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite = ImageMath.lambda_eval(lambda names: names["it"] - names["it"] == 0, it=image)
    mask = finite.convert("F").point(lambda value: value * 255 + 0).convert("1")
    if mask.getbbox() is None:
        return 0.0, 1.0
    ends: list[float] = []
    for start in (math.inf, -math.inf):
        numbers = Image.new("F", image.size, start)
        numbers.paste(image, mask=mask)
        ends += map(float, map(str, numbers.getextrema()))
    return ends[0], ends[3]


def _is_unsigned(image: Image.Image) -> bool:
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode == "I"
    return is_tiff and _tag(image, TiffImagePlugin.SAMPLEFORMAT, (1,)) == (1,)


def _without_sign(image: Image.Image) -> Image.Image:
    """Numbers of 32 bits, which Pillow takes for ones with a sign, in floating point."""
    numbers = image.convert("F")
    found = ImageMath.lambda_eval(
        lambda names: names["it"] + (names["it"] < 0) * 2.0**32, it=numbers
    )
    return cast(Image.Image, found)


def _is_white_zero(image: Image.Image) -> bool:
    """Whether the file says so, and Pillow has not inverted it: that it does up to 8 bits."""
    return bool(_tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, None) == WHITE_IS_ZERO)


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    """Of a TIFF."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    return tags.get(tag, default)


# --- Colour ---------------------------------------------------------------------------------------


def _without_profile(image: Image.Image, cmyk_profile: bytes) -> Image.Image:
    if image.mode == "CMYK":
        return _by_press(image, cmyk_profile) if cmyk_profile else image.convert("RGB")
    if image.mode == "LAB":
        return _transformed(image, _lab_to_srgb())
    return image


def _by_press(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        return _transformed(image, _to_srgb(profile, image.mode))
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise StorageFailure(f"The site's profile for CMYK cannot be used: {error}.") from error


def _transformed(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    return cast(Image.Image, ImageCms.applyTransform(image, transform))  # None only in place


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    # Cached, since building it costs more than applying it to a thumbnail. Threads may share it
    # (lcms2 copies its cache).
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB"
    )


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.createProfile("LAB")  # of the white D50, as a TIFF's
    srgb = ImageCms.createProfile("sRGB")
    # The tables of an optimized one are off by up to 10 of 255.
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)

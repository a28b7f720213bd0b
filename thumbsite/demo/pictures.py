"""Demo originals: generated pictures that show whether a thumbnail is right.

Each is a landscape with its number and an arrow that points up, so that one lying on its side, one
mirrored and one that was mixed up with another are easy to see. Together they have every EXIF
orientation, transparency, depth and colour mode that originals come with.
"""

import colorsys
import io
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFont, ImageOps

from thumbnails.rendering.profiles import display_p3

Size = tuple[int, int]
Colour = tuple[int, int, int]
Ink = Colour | str | int
# Writes the picture of this number to this path.
Writer = Callable[[int, Path], None]

LANDSCAPE: Size = (1600, 1200)
PORTRAIT: Size = (1200, 1600)
WIDE: Size = (1800, 1013)
SQUARE: Size = (1200, 1200)
SMALL: Size = (1280, 960)

HEIC = Path(__file__).parent / "photo.heic"

ORIENTATION_TAG = 0x0112
# What a camera does to the upright picture before it stores it under this orientation: the inverse
# of what a viewer does. (EXIF 2.3, tag 274.)
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def make_demo_pictures(folder: Path) -> list[Path]:
    """Write 63 pictures into `folder`, which is created, and return their paths in order.

    All but the last two can be rendered: one of these is truncated, the other is not a picture.
    The files are the same each time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (name, write) in enumerate(pictures(), start=1):
        path = folder / f"{number:02}-{name}"
        write(number, path)
        paths.append(path)
    return paths


def pictures() -> list[tuple[str, Writer]]:
    """Returns the name after the number, and what writes it."""
    return [
        ("photo.jpg", photo(LANDSCAPE)),
        *(
            (f"orientation-{orientation}-{name}.jpg", photo(size, orientation))
            for name, size in (("landscape", LANDSCAPE), ("portrait", PORTRAIT))
            for orientation in range(1, 9)
        ),
        # Transparency: the sky is see-through, and white on a thumbnail.
        ("alpha.png", lambda n, path: cut_out(n, SMALL).save(path, compress_level=1)),
        ("alpha-grey.png", lambda n, path: cut_out(n, SMALL).convert("LA").save(path)),
        ("palette-transparent.png", lambda n, path: few_colours(n).save(path, transparency=0)),
        ("palette-transparent.gif", lambda n, path: few_colours(n).save(path, transparency=0)),
        ("colour-key.png", write_colour_key),
        ("alpha.webp", lambda n, path: cut_out(n, SMALL).save(path, method=0)),
        ("alpha.avif", lambda n, path: cut_out(n, SMALL).save(path, speed=10)),
        # Depth and colour.
        ("grey.jpg", lambda n, path: scene(n, PORTRAIT).convert("L").save(path)),
        ("grey-orientation-3.jpg", write_grey_upside_down),
        ("grey.png", lambda n, path: scene(n, SMALL).convert("L").save(path, compress_level=1)),
        ("grey-16-bit.png", write_grey_16_bit),
        ("black-and-white.png", lambda n, path: scene(n, SMALL).convert("1").save(path)),
        ("palette.png", lambda n, path: scene(n, SMALL).quantize(64).save(path)),
        ("cmyk.jpg", lambda n, path: scene(n, LANDSCAPE).convert("CMYK").save(path)),
        ("display-p3.jpg", write_display_p3),
        ("display-p3-orientation-6.jpg", write_display_p3_lying),
        ("display-p3.png", write_display_p3),
        # Formats and ways of coding.
        ("photo.webp", lambda n, path: scene(n, WIDE).save(path, method=0)),
        ("lossless.webp", lambda n, path: scene(n, SMALL).save(path, lossless=True, method=0)),
        ("orientation-6.webp", turned(SMALL, 6, method=0)),
        ("photo.avif", lambda n, path: scene(n, WIDE).save(path, speed=10)),
        ("orientation-8.png", turned(SMALL, 8, compress_level=1)),
        ("photo.tiff", lambda n, path: scene(n, SMALL).save(path, compression="tiff_lzw")),
        ("orientation-6.tiff", turned(SMALL, 6, compression="tiff_lzw")),
        ("photo.bmp", lambda n, path: scene(n, (640, 480)).save(path)),
        ("progressive.jpg", lambda n, path: scene(n, LANDSCAPE).save(path, progressive=True)),
        ("full-chroma.jpg", lambda n, path: scene(n, PORTRAIT).save(path, subsampling=0)),
        ("animated.gif", write_animation),
        ("animated.webp", write_animation),
        # Shapes.
        ("panorama.jpg", photo((6000, 500))),
        ("tall.jpg", photo((500, 4000))),
        ("narrow.png", lambda n, path: scene(n, (40, 1200)).save(path)),
        ("icon.png", lambda n, path: scene(n, (96, 96)).save(path)),
        ("one-pixel.png", lambda n, path: Image.new("RGB", (1, 1), tint(n, 0.6, 0.8)).save(path)),
        # Wrong names and metadata.
        ("jpeg-named.png", photo(LANDSCAPE)),
        ("png-named.jpg", lambda n, path: scene(n, SMALL).save(path, "PNG", compress_level=1)),
        ("orientation-out-of-range.jpg", write_orientation_out_of_range),
        ("no-extension", photo(SQUARE)),
        # Ordinary ones.
        ("photo.jpg", photo(SQUARE)),
        ("photo.jpg", photo(WIDE)),
        ("photo.jpg", photo(PORTRAIT)),
        ("photo.jpg", photo((2000, 1333))),
        ("photo.jpg", photo((1333, 2000))),
        ("photo.heic", write_heic),
        # Broken.
        ("truncated.jpg", write_truncated),
        ("no-picture.jpg", write_no_picture),
    ]


# --- Writers ------------------------------------------------------------------------------------
def photo(size: Size, orientation: int | None = None) -> Writer:
    """A JPEG that is upright and has this size in a viewer that applies the orientation."""
    return turned(size, orientation, format="JPEG", quality=88)


def turned(size: Size, orientation: int | None, **options: Any) -> Writer:
    def write(number: int, path: Path) -> None:
        image = scene(number, size)
        if orientation is not None:
            image = stored(image, orientation)
            options["exif"] = exif(orientation)
        image.save(path, **options)

    return write


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels of the upright picture as they lie in a file of this EXIF orientation."""
    return image if orientation == 1 else image.transpose(STORED_AS[orientation])


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags


def write_colour_key(number: int, path: Path) -> None:
    """RGB without an alpha channel, but with one colour that counts as transparent."""
    key = tint(number, 0.3, 1.0)
    scene(number, SMALL, flat_sky=key).save(path, transparency=key, compress_level=1)


def write_grey_upside_down(number: int, path: Path) -> None:
    stored(scene(number, LANDSCAPE).convert("L"), 3).save(path, exif=exif(3))


def write_grey_16_bit(number: int, path: Path) -> None:
    grey = scene(number, SMALL).convert("L")
    # A value v of 0-255 is 257 * v of 0-65535: the same byte twice.
    doubled = Image.merge("LA", (grey, grey)).tobytes()
    Image.frombytes("I;16", grey.size, doubled).save(path, compress_level=1)


def write_display_p3(number: int, path: Path) -> None:
    """Looks like the others in a viewer that applies the colour profile, and dull without."""
    to_display_p3(scene(number, SMALL)).save(path, icc_profile=display_p3())


def write_display_p3_lying(number: int, path: Path) -> None:
    image = stored(to_display_p3(scene(number, LANDSCAPE)), 6)
    image.save(path, icc_profile=display_p3(), exif=exif(6))


def write_animation(number: int, path: Path) -> None:
    """The sun rises over three frames."""
    frames = [scene(number, (640, 480), sun_height=height) for height in (0.2, 0.5, 0.8)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=500, loop=0)


def write_orientation_out_of_range(number: int, path: Path) -> None:
    """Orientation 9 does not exist: a viewer shows the pixels as stored."""
    scene(number, LANDSCAPE).save(path, exif=exif(9))


def write_heic(_number: int, path: Path) -> None:
    """As an iPhone's: HEIC in Display P3, turned by the container and by EXIF alike.

    Copied, as nothing that the project depends on encodes HEIC. It was made with pillow-heif 1.8 as

        image = stored(to_display_p3(scene(61, LANDSCAPE)), 6)
        image.save(HEIC, "HEIF", quality=60, icc_profile=display_p3(), exif=exif(6).tobytes())
    """
    shutil.copyfile(HEIC, path)


def write_truncated(number: int, path: Path) -> None:
    """A JPEG that ends in the middle of its pixels, as after a broken upload."""
    whole = io.BytesIO()
    scene(number, LANDSCAPE).save(whole, "JPEG", quality=88)
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])


def write_no_picture(number: int, path: Path) -> None:
    path.write_text(f"Number {number} is a text, whatever its name says.\n")


# --- The scene ----------------------------------------------------------------------------------
def scene(
    number: int, size: Size, *, sun_height: float | None = None, flat_sky: Colour | None = None
) -> Image.Image:
    """An upright landscape in colours of its own, with its number and an arrow that points up.

    `sun_height` is from 0, near the horizon, to 1; without one it follows from the number.
    `flat_sky` is one colour instead of a sky with a sun.
    """
    if flat_sky is None:
        image = sky(number, size)
        draw_sun(image, number, number * 7 % 10 / 9 if sun_height is None else sun_height)
    else:
        image = Image.new("RGB", size, flat_sky)
    draw_ground(image, number, ground_shades(number))
    draw_signs(image, number, "white", tint(number, 0.6, 0.2, turn=0.45))
    return image


def cut_out(number: int, size: Size) -> Image.Image:
    """The scene with a sky that clears towards the top until it is transparent."""
    image = scene(number, size, flat_sky=tint(number, 0.5, 1.0))
    opaque = Image.new("L", size, 0)
    draw_ground(opaque, number, [255, 255, 255])
    draw_signs(opaque, number, 255, 255)
    clearing = Image.linear_gradient("L").resize(size)
    image.putalpha(ImageChops.lighter(opaque, clearing))
    return image


def few_colours(number: int) -> Image.Image:
    """A palette picture whose index 0 is the whole sky."""
    image = scene(number, SMALL, flat_sky=tint(number, 0.3, 1.0))
    image = image.quantize(32, dither=Image.Dither.NONE)
    sky_index = image.getpixel((0, 0))
    return image.remap_palette(sorted(range(32), key=lambda index: index != sky_index))


def tint(number: int, saturation: float, brightness: float, turn: float = 0.0) -> Colour:
    """The number's own hue. The golden ratio keeps neighbours far apart on the colour wheel."""
    red, green, blue = colorsys.hsv_to_rgb((number * 0.618034 + turn) % 1, saturation, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)


def sky(number: int, size: Size) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return ImageOps.colorize(ramp, tint(number, 0.65, 0.8), tint(number, 0.15, 1.0, turn=0.08))


def draw_sun(image: Image.Image, number: int, height: float) -> None:
    """Left or right of the number, never behind it."""
    width, high = image.size
    radius = min(width, high) * 0.08
    x = width * (0.12, 0.88)[number // 4 % 2]
    y = high * (0.45 - 0.32 * height)
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(image).ellipse(box, fill=(255, 244, 204))


def ground_shades(number: int) -> list[Colour]:
    """From the farthest range to the nearest."""
    return [tint(number, 0.6, brightness, turn=0.45) for brightness in (0.6, 0.45, 0.3)]


def draw_ground(image: Image.Image, number: int, shades: Sequence[Colour | int]) -> None:
    """Ranges one before the other: of hills, mountains, waves or houses by turns."""
    outline = (hills, mountains, waves, houses)[number % 4]
    width, height = image.size
    draw = ImageDraw.Draw(image)
    steps = 160
    for depth, shade in enumerate(shades):
        base = 0.58 + 0.14 * depth
        line = [
            (width * step / steps, height * (base - outline(step / steps, depth + number)))
            for step in range(steps + 1)
        ]
        draw.polygon([(0, height), *line, (width, height)], fill=shade)


def hills(x: float, seed: int) -> float:
    return 0.06 * math.sin(7 * x + seed * 1.7) + 0.03 * math.sin(13 * x + seed)


def mountains(x: float, seed: int) -> float:
    position = (x * 3 + seed * 0.37) % 1
    return 0.22 * (1 - abs(2 * position - 1)) - 0.06


def waves(x: float, seed: int) -> float:
    return 0.025 * abs(math.sin(18 * x + seed)) - 0.03


def houses(x: float, seed: int) -> float:
    return 0.16 * ((math.floor(x * 14) + 3) * (seed + 5) * 13 % 11) / 11 - 0.02


def draw_signs(image: Image.Image, number: int, fill: Ink, outline: Ink) -> None:
    """The number, and beside it the arrow that points up; outlined, to stand out on any sky."""
    width, height = image.size
    unit = min(width, height) * 0.1
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(unit * 4.2, 1))
    place = (width * 0.5 - unit * 1.6, height * 0.5)
    for ink, stroke in ((outline, 0.25), (fill, 0.12)):
        draw.text(place, str(number), ink, font, "mm", stroke_width=unit * stroke)
    x, top = width * 0.5 + unit * 2.9, height * 0.5 - unit * 2.2
    arrow = [
        (x, top),
        *((x + right * unit, top + 1.7 * unit) for right in (1.3, 0.5)),
        *((x + right * unit, top + 4.4 * unit) for right in (0.5, -0.5)),
        *((x + right * unit, top + 1.7 * unit) for right in (-0.5, -1.3)),
    ]
    draw.polygon(arrow, fill=fill, outline=outline, width=max(round(unit * 0.12), 1))


# --- The colour profile -------------------------------------------------------------------------
def to_display_p3(image: Image.Image) -> Image.Image:
    """Returns the same colours in the wider colour space."""
    wide = ImageCms.ImageCmsProfile(io.BytesIO(display_p3()))
    ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), wide, inPlace=True)
    return image

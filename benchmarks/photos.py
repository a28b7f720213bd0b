"""Generated images, so that every machine measures the same ones.

The cost of decoding a photo depends on its detail, so the large ones imitate a phone's: shapes
with hard edges, natural texture on all scales, the noise of a sensor, and the JPEG quality of
phones. They have 3 to 5 MB each, like real ones.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageDraw, ImageFilter

Size = tuple[int, int]
Colour = tuple[int, int, int]
Plane = npt.NDArray[np.float32]

PHOTO_SIZE: Size = (4032, 3024)
"""12 megapixels, as most phones store them: in landscape, with the orientation in EXIF."""
PHONE_SIZES: dict[int, Size] = {8: (3264, 2448), 9: (3456, 2592), 12: PHOTO_SIZE}
"""Of phones' photos, by megapixels."""
PHOTO_QUALITY = 91
WEB_SIZE: Size = (2016, 1512)
"""3 megapixels, of pictures in the formats of the web."""

MEDIUM_SIZE: Size = (640, 480)
SMALL_SIZE: Size = (320, 240)
TINY_SIZE: Size = (16, 12)

TINT = 30
"""How much a colour's red, green and blue may differ from grey."""


# --- Photos -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The motif of a photo, and its texture and noise."""

    name: str
    draw: Callable[[np.random.Generator, Size], Image.Image]
    texture: float
    """Standard deviation of the texture's brightness, of 255."""
    roughness: float
    """Each scale's amplitude as a share of the next coarser one's."""
    grain: float
    """Standard deviation of the noise, of 255, after a phone's own noise reduction."""


def make_photos(folder: Path, *, count: int, size: Size = PHOTO_SIZE) -> list[Path]:
    """Write `count` photos of that size, cycling through scenes and orientations."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [_jpeg(photographed(scene, seed, size)) for seed, scene in enumerate(SCENES[:count])]
    paths = []
    for number in range(count):
        scene = SCENES[number % len(SCENES)]
        orientation = ORIENTATIONS[number % len(ORIENTATIONS)]
        path = folder / f"{number + 1}-{scene.name}-{orientation}.jpg"
        path.write_bytes(_with_orientation(scenes[number % len(SCENES)], orientation))
        paths.append(path)
    return paths


def photographed(scene: Scene, seed: int, size: Size) -> Image.Image:
    """Returns a photo of the scene.

    It is drawn at half the size: phone photos are not sharp to the pixel.
    """
    random = np.random.default_rng(seed)
    drawn = scene.draw(random, (size[0] // 2, size[1] // 2))
    drawn = drawn.resize(size, Image.Resampling.BILINEAR)
    light = _texture(random, scene.roughness, size) * np.float32(scene.texture)
    light += _noise(random, size) * np.float32(scene.grain)
    pixels = np.asarray(drawn, dtype=np.float32) + light[:, :, np.newaxis]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image) -> bytes:
    """Without EXIF."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=PHOTO_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def _texture(random: np.random.Generator, roughness: float, photo: Size) -> Plane:
    """Brightness that varies on every scale from the whole photo to 2 pixels; deviation 1."""
    width, height = photo
    total: Plane = np.zeros((3, 4), dtype=np.float32)
    amplitude = 1.0
    for halvings in range(9, 0, -1):
        size = width >> halvings, height >> halvings
        total = _scaled(total, size) + _noise(random, size) * np.float32(amplitude)
        amplitude *= roughness
    total /= total.std()
    return _scaled(total, photo)


def _noise(random: np.random.Generator, size: Size) -> Plane:
    """Independent pixels; deviation 1."""
    return random.standard_normal((size[1], size[0]), dtype=np.float32)


def _scaled(plane: Plane, size: Size) -> Plane:
    image = Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment inserted, so that a scene is encoded only once."""
    content = _exif(orientation)
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2) + content
    return jpeg[:2] + segment + jpeg[2:]


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Phone"
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def make_web_pictures(folder: Path) -> dict[str, Path]:
    """Write a picture of 3 megapixels in each of the web's formats but JPEG, and as a TIFF.

    Returns them by what they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = photographed(SCENES[1], 1, WEB_SIZE)
    translucent = image.copy()
    translucent.putalpha(Image.radial_gradient("L").resize(image.size))
    saved: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "WebP": ("webp", image, {"quality": 85}),
        "WebP with alpha": ("webp", translucent, {"quality": 85}),
        "PNG": ("png", image, {}),
        "PNG with alpha": ("png", translucent, {}),
        "AVIF": ("avif", image, {"quality": 75, "speed": 8}),
        "TIFF, LZW": ("tiff", image, {"compression": "tiff_lzw"}),
        "GIF": ("gif", image, {}),
    }
    paths = {}
    for number, (name, (ending, picture, options)) in enumerate(saved.items()):
        paths[name] = folder / f"{number}.{ending}"
        picture.save(paths[name], **options)
    return paths


# --- Small pictures -----------------------------------------------------------------------------


def make_medium(folder: Path, *, count: int) -> list[Path]:
    """Write `count` JPEGs of 640 × 480 pixels: larger than thumbnails on both sides."""
    return _make_plain(folder, MEDIUM_SIZE, count, endings=(".jpg",))


def make_small(folder: Path, *, count: int) -> list[Path]:
    """Write `count` pictures of 320 × 240 pixels: mostly JPEG with EXIF, some PNG and WebP."""
    return _make_plain(folder, SMALL_SIZE, count, endings=(".jpg", ".jpg", ".jpg", ".png", ".webp"))


def make_tiny(folder: Path, *, count: int) -> list[Path]:
    """Write `count` JPEGs of 16 × 12 pixels, which cost almost nothing to render."""
    return _make_plain(folder, TINY_SIZE, count, endings=(".jpg",))


def _make_plain(folder: Path, size: Size, count: int, *, endings: Sequence[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        image = _gradient(
            size, _colour(random, TINT, 255 - TINT), _colour(random, TINT, 255 - TINT)
        )
        path = folder / f"{number}{endings[number % len(endings)]}"
        image.save(path, exif=_exif(ORIENTATIONS[number % len(ORIENTATIONS)]))
        paths.append(path)
    return paths


# --- Scenes -------------------------------------------------------------------------------------


def _hills(random: np.random.Generator, size: Size) -> Image.Image:
    """A bright sky over ridges that get darker towards the front."""
    width, height = size
    image = _gradient(size, (120, 170, 225), (225, 230, 235))
    draw = ImageDraw.Draw(image)
    for nearness in range(6):
        across = np.linspace(0, width, 160)
        bends = random.standard_normal(160).cumsum() * height * 0.012
        ridge = height * (0.35 + 0.1 * nearness) + bends
        points = [(float(x), float(y)) for x, y in zip(across, ridge, strict=True)]
        colour = (110 - 15 * nearness, 130 - 14 * nearness, 120 - 18 * nearness)
        draw.polygon([(0, height), *points, (width, height)], fill=colour)
    return image


def _street(random: np.random.Generator, size: Size) -> Image.Image:
    """Facades: straight hard edges, hundreds of windows."""
    width, height = size
    image = _gradient(size, (165, 185, 215), (215, 215, 210))
    draw = ImageDraw.Draw(image)
    left = 0
    while left < width:
        right = left + int(random.integers(220, 400))
        top = int(random.integers(height // 8, height // 2))
        draw.rectangle((left, top, right, height), fill=_colour(random, 110, 200))
        for x in range(left + 20, right - 60, 80):
            for y in range(top + 35, height - 70, 115):
                draw.rectangle((x, y, x + 48, y + 72), fill=_colour(random, 45, 110))
                draw.line((x + 24, y, x + 24, y + 72), fill=(200, 200, 195), width=4)
        left = right
    return image


def _leaves(random: np.random.Generator, size: Size) -> Image.Image:
    """A bush of thousands of overlapping leaves."""
    image = Image.new("RGB", size, (50, 65, 45))
    draw = ImageDraw.Draw(image)
    for x, y, length, breadth, shade in random.random((4000, 5)):
        left, top = x * size[0], y * size[1]
        box = left, top, left + 15 + 90 * length, top + 15 + 70 * breadth
        draw.ellipse(box, fill=(int(55 + 55 * shade), int(75 + 75 * shade), int(45 + 30 * shade)))
    return image


def _table(random: np.random.Generator, size: Size) -> Image.Image:
    """Objects on a table in front of a blurred room: large smooth areas, few edges."""
    small = Image.new("RGB", (size[0] // 4, size[1] // 4), (150, 120, 95))
    draw = ImageDraw.Draw(small)
    for x, y, radius in random.random((60, 3)):
        centre, r = (x * small.width, y * small.height), 10 + 50 * radius
        draw.circle(centre, r, fill=_colour(random, 60, 220))
    image = small.filter(ImageFilter.GaussianBlur(9)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for x, y, radius in random.random((7, 3)):
        centre = x * size[0], (0.55 + 0.4 * y) * size[1]
        draw.circle(centre, 75 + 125 * radius, fill=_colour(random, 120, 220), width=6)
    return image


def _gradient(size: Size, top: Colour, bottom: Colour) -> Image.Image:
    column = Image.new("RGB", (1, 2))
    column.putdata([top, bottom])
    return column.resize(size, Image.Resampling.BILINEAR)


def _colour(random: np.random.Generator, darkest: int, brightest: int) -> Colour:
    """A pale colour: JPEG does not preserve details between saturated ones."""
    grey = random.integers(darkest, brightest)
    red, green, blue = (int(value) for value in grey + random.integers(-TINT, TINT, 3))
    return red, green, blue


SCENES = (
    Scene(name="hills", draw=_hills, texture=18, roughness=0.66, grain=4.8),
    Scene(name="street", draw=_street, texture=12, roughness=0.66, grain=4.8),
    Scene(name="leaves", draw=_leaves, texture=14, roughness=0.7, grain=6.5),
    Scene(name="table", draw=_table, texture=9, roughness=0.62, grain=5.5),
)
ORIENTATIONS = (6, 1, 6, 8, 1, 6, 3, 1)
"""Mostly 6, a phone held upright, and 1, one turned to the left."""

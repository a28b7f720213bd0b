"""Pictures for tests, all made here: good ones in every format, and every kind of bad one.

They show the *scene*, whose four quarters differ, so that one look at the corners tells whether a
thumbnail stands upright. Each builder returns the bytes of a file.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageDraw

from thumbsite.demo.pictures import stored

Colour = tuple[int, int, int]

QUARTERS: dict[str, Colour] = {
    "red": (200, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 60, 200),
    "yellow": (230, 210, 40),
}
UPRIGHT = ("red", "green", "blue", "yellow")
"""The scene's corners: top left, top right, bottom left, bottom right."""

ORIENTATIONS = range(1, 9)

EMPTY = b""
TEXT = b"This is no picture, whatever its name says.\n"


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """The upright scene, RGB; one pixel wide or high it shows only some of its quarters."""
    image = Image.new("RGB", (width, height))
    across, down = (0, (width + 1) // 2, width), (0, (height + 1) // 2, height)
    for number, name in enumerate(UPRIGHT):
        column, row = number % 2, number // 2
        box = (across[column], down[row], across[column + 1], down[row + 1])
        image.paste(QUARTERS[name], box)
    return image


def photo(width: int, height: int) -> Image.Image:
    """A picture like a photo: soft light, details of every size, hard edges, a grain; always the
    same one."""
    chance = np.random.default_rng(seed=1)
    things = Image.new("RGB", (width, height), (140, 130, 120))
    draw = ImageDraw.Draw(things)
    for _ in range(60):
        x, y, radius = chance.random(3) * (width, height, width / 12)
        red, green, blue = (int(value) for value in chance.integers(60, 200, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), (red, green, blue))
    light = np.full((height, width), -5.0 * 128, np.float32)
    for cell_px, strength in ((2, 4), (8, 8), (32, 12), (128, 25), (512, 40)):
        coarse = chance.normal(128, strength, (height // cell_px + 2, width // cell_px + 2))
        layer = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
        light += np.asarray(layer.resize(things.size, Image.Resampling.BICUBIC), np.float32)
    grain = 4 * chance.standard_normal((height, width, 3), np.float32)
    pixels = np.asarray(things) + light[:, :, np.newaxis] + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def corners(image: Image.Image) -> tuple[str, ...]:
    """The colours of a picture's quarters as words, in the order of UPRIGHT."""
    image = image.convert("RGB")
    columns = (image.width // 4, image.width * 3 // 4)
    rows = (image.height // 4, image.height * 3 // 4)
    return tuple(colour_of(image.getpixel((x, y))) for y in rows for x in columns)


def colour_of(pixel: object) -> str:
    """The name of the scene's colour that is nearest to these red, green and blue."""
    assert isinstance(pixel, tuple | list)
    distances = {
        name: sum((a - b) ** 2 for a, b in zip(colour, pixel, strict=True))
        for name, colour in QUARTERS.items()
    }
    return min(distances, key=distances.__getitem__)


def opened(data: bytes) -> Image.Image:
    """The picture in these bytes, decoded in full."""
    image = Image.open(BytesIO(data))
    image.load()
    return image


# --- Good ones ------------------------------------------------------------------------------------


def jpeg(
    image: Image.Image | None = None,
    *,
    orientation: int | None = None,
    mode: str = "RGB",
    icc: bytes | None = None,
    quality: int = 92,
    comment: bytes = b"",
) -> bytes:
    """A JPEG. With an EXIF `orientation` it is stored turned, so that a viewer shows it upright."""
    image = laid((image or scene()).convert(mode), orientation)
    exif = exif_of(orientation)
    return saved(image, "JPEG", quality=quality, exif=exif, icc_profile=icc, comment=comment)


def png(
    image: Image.Image | None = None, *, mode: str = "RGB", orientation: int | None = None
) -> bytes:
    """A PNG of mode 1, L, LA, P, RGB, RGBA or I;16 (16-bit grey)."""
    image = laid(image or scene(), orientation)
    if mode == "I;16":
        # 257 takes 255 to the full 65,535.
        image = image.convert("L").convert("I").point(lambda value: value * 257)
    return saved(image.convert(mode), "PNG", exif=exif_of(orientation))


def png_without_palette() -> bytes:
    """A PNG whose pixels are numbers of a palette that is not there."""
    data = png(mode="P")
    begin = data.index(b"PLTE") - 4
    return data[:begin] + data[begin + 12 + int.from_bytes(data[begin : begin + 4], "big") :]


def png_with_exif_behind(orientation: int) -> bytes:
    """A PNG whose EXIF follows its pixels, between two other chunks."""
    data = png(orientation=orientation)
    begin = data.index(b"eXIf") - 4
    end = begin + 12 + int.from_bytes(data[begin : begin + 4], "big")
    note = png_chunk(b"tEXt", b"Comment\0behind")
    without = data[:begin] + data[end:]
    return without[:-12] + note + data[begin:end] + without[-12:]


def transparent_png(mode: str = "RGBA") -> bytes:
    """A PNG of mode RGBA, LA, P or L of the half-transparent scene."""
    image = half_transparent()
    if mode in {"RGBA", "LA"}:
        return saved(image.convert(mode), "PNG")
    # One colour of the palette, or one grey, stands for transparency.
    plain = image.convert("RGB")
    plain = plain.quantize(8) if mode == "P" else plain.convert(mode)
    return saved(plain, "PNG", transparency=plain.getpixel((0, 0)))


def half_transparent() -> Image.Image:
    """The scene, RGBA, its left half fully transparent over hidden black."""
    image = scene().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, image.width // 2, image.height))
    return image


def gif(image: Image.Image | None = None, *, transparent: bool = False, frames: int = 1) -> bytes:
    """A GIF; of an animated one, only the first frame is the scene."""
    first = (image or scene()).quantize(8)
    others = [Image.new("L", first.size, 40 * number).convert("P") for number in range(1, frames)]
    hole = {"transparency": first.getpixel((0, 0))} if transparent else {}
    return saved(first, "GIF", save_all=frames > 1, append_images=others, **hole)


def webp(
    image: Image.Image | None = None, *, mode: str = "RGB", orientation: int | None = None
) -> bytes:
    image = laid((image or scene()).convert(mode), orientation)
    return saved(image, "WEBP", quality=90, exif=exif_of(orientation))


def avif(
    image: Image.Image | None = None, *, mode: str = "RGB", orientation: int | None = None
) -> bytes:
    """An AVIF; its orientation is written as the format's own turning and mirroring."""
    image = laid((image or scene()).convert(mode), orientation)
    return saved(image, "AVIF", quality=90, exif=exif_of(orientation))


def tiff(
    image: Image.Image | None = None, *, mode: str = "RGB", orientation: int | None = None
) -> bytes:
    """A TIFF; its orientation is a tag of its own, not one of EXIF."""
    image = laid((image or scene()).convert(mode), orientation)
    tags = {ExifTags.Base.Orientation: orientation} if orientation else {}
    return saved(image, "TIFF", compression="tiff_deflate", tiffinfo=tags)


def tiff_of(
    strips: list[bytes],
    *,
    bits: list[int],
    photometric: int,
    side: int = 64,
    sample_format: int = 1,
    planes: bool = False,
    order: str = "<",
    compressed: bool = False,
) -> bytes:
    """A square TIFF of these numbers, of kinds that Pillow does not write (TIFF 6.0, section 8)."""
    if compressed:
        strips = [zlib.compress(strip) for strip in strips]
    places = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [side]),
        257: ("H", [side]),
        258: ("H", bits),
        259: ("H", [8 if compressed else 1]),
        262: ("H", [photometric]),
        273: ("I", places),
        277: ("H", [len(bits)]),
        278: ("H", [side]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if planes else 1]),
        339: ("H", [sample_format] * len(bits)),
    }
    content = b"".join(strips)
    entries = b""
    for tag, (kind, values) in tags.items():
        value = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(value) > 4:
            content, value = content + value, struct.pack(f"{order}I", 8 + len(content))
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(values))
        entries += value.ljust(4, b"\0")
    start = {"<": b"II", ">": b"MM"}[order]
    start += struct.pack(f"{order}HI", 42, 8 + len(content))
    return start + content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def png_16_bit(pixels: npt.NDArray[np.int64], key: list[int]) -> bytes:
    """An RGB PNG of 16 bits a channel, of which the colour `key` stands for transparency."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">3H", *key)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def bmp(image: Image.Image | None = None) -> bytes:
    return saved(image or scene(), "BMP")


def vast_jpeg(width: int, height: int, *, components: int = 1, progressive: bool = False) -> bytes:
    """A grey JPEG of a single scan, which takes a quarter of a bit a pixel at most."""

    def segment(marker: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content

    numbers = range(1, components + 1)
    blocks = components * -(-width // 8) * -(-height // 8)
    bits = blocks * (1 if progressive else 2)  # no difference, and the end of the block
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0" + bytes([1] * 64)),
            segment(
                0xC2 if progressive else 0xC0,
                struct.pack(">BHHB", 8, height, width, components),
                *(bytes([number, 0x11, 0]) for number in numbers),
            ),
            # Tables with one code of one bit.
            *(segment(0xC4, bytes([table, 1]) + bytes(16)) for table in (0x00, 0x10)),
            segment(
                0xDA,
                bytes([components]),
                *(bytes([number, 0]) for number in numbers),
                bytes([0, 0 if progressive else 63, 0]),
            ),
            bytes(-(-bits // 8)),
            b"\xff\xd9",
        )
    )


def mpo(image: Image.Image | None = None, *, orientation: int | None = None) -> bytes:
    """A JPEG with a second picture behind the first, as phones make them."""
    first = laid(image or scene(), orientation)
    second = Image.new("RGB", first.size, "grey")
    exif = exif_of(orientation)
    return saved(first, "MPO", save_all=True, append_images=[second], exif=exif)


def laid(image: Image.Image, orientation: int | None) -> Image.Image:
    """The picture as a camera held in this orientation stores it."""
    return stored(image, orientation or 1)


def exif_of(orientation: int | None) -> bytes:
    """An EXIF block with this orientation and a camera's name, or none."""
    if orientation is None:
        return b""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    return exif.tobytes()


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    """The picture as it is, in this format of Pillow's."""
    file = BytesIO()
    image.save(file, format_, **{key: value for key, value in options.items() if value != b""})
    return file.getvalue()


# --- Bad ones -------------------------------------------------------------------------------------


def truncated(data: bytes | None = None, *, keep: float = 0.5) -> bytes:
    """The first part of a file, as an upload that broke off leaves it; its header is whole."""
    data = jpeg(scene(640, 480)) if data is None else data
    return data[: int(len(data) * keep)]


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few hundred bytes which says that it has that many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def webp_header(width: int, height: int) -> bytes:
    """A lossless WebP of one white pixel which says that it has that many."""
    data = bytearray(saved(Image.new("RGB", (1, 1), "white"), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


def rle_bmp(width: int = 64, height: int = 48) -> bytes:
    """A run-length encoded BMP of black rows, in four bytes each."""
    palette = b"\0\0\0\0\xff\xff\xff\0"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 2, 2)
    offset = 14 + len(header) + len(palette)
    rows = b"\1\0\0\0" * height + b"\0\1"
    return struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset) + header + palette + rows


def with_exif_segments(number: int) -> bytes:
    """A JPEG with that many EXIF segments, each too short to say anything."""
    data = jpeg()
    return data[:2] + b"\xff\xe1\x00\x08Exif\0\0" * number + data[2:]


def with_scans(number: int) -> bytes:
    """A progressive JPEG with that many scans, of which all but ten repeat the last one."""
    data = saved(Image.new("RGB", (8, 8)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (number - data.count(b"\xff\xda")) + data[-2:]


def with_png_chunks(number: int, size_bytes: int = 0) -> bytes:
    """A PNG with that many private chunks of that size ahead of its pixels."""
    data = png()
    return data[:33] + png_chunk(b"prVt", bytes(size_bytes)) * number + data[33:]


def with_gif_comment(blocks: int) -> bytes:
    """A GIF with a comment in that many blocks of 255 bytes ahead of its pixels."""
    data = gif()
    first = data.index(b"\x2c", 13 + 3 * 2 ** (data[10] % 8 + 1))
    return data[:first] + b"\x21\xfe" + (b"\xff" * 256) * blocks + b"\0" + data[first:]


def eps() -> bytes:
    """A format that Pillow knows and that runs another program to decode."""
    return saved(scene(), "EPS")


def psd(width: int = 64, height: int = 48) -> bytes:
    """A format that Pillow knows and that is not shown on the web: one flat white layer."""
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3)
    no_palette_resources_or_layers = bytes(12)
    uncompressed = bytes(2)
    return header + no_palette_resources_or_layers + uncompressed + b"\xff" * width * height * 3

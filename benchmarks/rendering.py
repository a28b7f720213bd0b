"""CPU per thumbnail, and the similarity of its pixels to those of the old service."""

import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from unittest import mock

import numpy as np
from PIL import Image, ImageOps

from benchmarks.meters import cpu_milliseconds
from benchmarks.report import Bound, Row, Section
from thumbnails.rendering import Recipe, Rendering, Spool, Variant, fit_inside
from thumbnails.rendering import render as render_module
from thumbnails.rendering.pool import Limits, RenderPool
from thumbnails.rendering.render import REDUCING_GAP, render

RECIPE = Recipe()
WITH_VARIANTS = replace(
    RECIPE, variants=(Variant(".webp", 256), Variant("@2x.jpg", 512), Variant("@2x.webp", 512))
)
MAX_PIXELS = 200_000_000
FINGERPRINT = "0123456789abcdef"
FORMER_GAP = 1.5
FLOOR_GAP = 2.0
"""The floor decodes to at least this many times the thumbnail's size."""
LIMITS = Limits(seconds=30, memory_bytes=2**30)

Work = Callable[[Path], object]


# --- What is compared ---------------------------------------------------------------------------


def this_renderer(path: Path) -> bytes:
    with path.open("rb") as file:
        return render(file, RECIPE, fingerprint=FINGERPRINT, max_pixels=MAX_PIXELS).content


def with_former_gap(path: Path) -> bytes:
    """As this renderer was when text and line screens showed false patterns."""
    with mock.patch.object(render_module, "REDUCING_GAP", FORMER_GAP):
        return this_renderer(path)


def in_a_process(pool: RenderPool, path: Path) -> bytes:
    """As the site does: the file is read here and decoded in a render process."""
    file = os.open(path, os.O_RDONLY)
    try:
        with Spool() as spool:
            spool.copy_from(file, os.fstat(file).st_size)
            rendering, _ = pool.render(
                spool, RECIPE, name=path.name, fingerprint=FINGERPRINT, max_pixels=MAX_PIXELS
            )
    finally:
        os.close(file)
    return rendering.content


def one_decode(path: Path) -> Rendering:
    """The thumbnail and its variants."""
    with path.open("rb") as file:
        return render(file, WITH_VARIANTS, fingerprint=FINGERPRINT, max_pixels=MAX_PIXELS)


def four_renders(path: Path) -> None:
    """The same files, each from a decode of its own."""
    for size_px in (256, 512):
        with path.open("rb") as file:
            recipe = Recipe(size_px=size_px)
            render(file, recipe, fingerprint=FINGERPRINT, max_pixels=MAX_PIXELS)
        webp_alone(path, size_px)


def webp_alone(path: Path, size_px: int) -> None:
    """What this renderer does for a WebP, and nothing else."""
    with Image.open(path) as image:
        width, height = fit_inside(*image.size, size_px)
        image.draft(None, (math.ceil(width * REDUCING_GAP), math.ceil(height * REDUCING_GAP)))
        small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
        upright = ImageOps.exif_transpose(small)
    upright.save(io.BytesIO(), "WEBP", quality=RECIPE.quality, method=2)


def old_order(path: Path) -> bytes:
    """As the old service did: load the full image, transpose, flatten, resize."""
    image = _old_preparation(path)
    size = fit_inside(*image.size, RECIPE.size_px)
    return _saved(image.resize(size, Image.Resampling.LANCZOS))


def old_order_with_thumbnail(path: Path) -> bytes:
    """The same with Pillow's `thumbnail`, which averages blocks of pixels before resizing."""
    image = _old_preparation(path)
    image.thumbnail((RECIPE.size_px, RECIPE.size_px), Image.Resampling.LANCZOS)
    return _saved(image)


def reduced_decode(path: Path) -> None:
    """The floor: the minimum for any renderer with this decoder."""
    with Image.open(path) as image:
        width, height = fit_inside(*image.size, RECIPE.size_px)
        image.draft(None, (math.ceil(width * FLOOR_GAP), math.ceil(height * FLOOR_GAP)))
        image.load()


def _old_preparation(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return ImageOps.exif_transpose(image).convert("RGB")


def _saved(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=RECIPE.quality, optimize=True)
    return content.getvalue()


Contenders = dict[str, tuple[str, Work]]


def _contenders(pool: RenderPool) -> Contenders:
    return {
        "ours": ("this renderer", this_renderer),
        "former_gap": (f"the same with a reducing gap of {FORMER_GAP}", with_former_gap),
        "process": ("this renderer in a render process", partial(in_a_process, pool)),
        "old": ("the old order: load, transpose, flatten, resize", old_order),
        "old_thumbnail": ("the old order, with Image.thumbnail", old_order_with_thumbnail),
        "floor": ("the reduced decode alone, at a gap of 2", reduced_decode),
        "one_decode": ("JPEG and WebP of 256 and 512 px from one decode", one_decode),
        "four_renders": ("the same four files, each rendered by itself", four_renders),
    }


# --- Measuring ----------------------------------------------------------------------------------


def measure(photos: Sequence[Path], *, rounds: int) -> Section:
    with RenderPool(1, LIMITS) as pool:
        in_a_process(pool, photos[0])  # starts the process before the measurement
        contenders = _contenders(pool)
        medians = _medians(contenders, photos, rounds)
    return Section(
        title=f"CPU per thumbnail, {len(photos)} photos of 12 megapixels, {rounds} rounds",
        rows=[*_times(contenders, medians), *_ratios(medians), *_likeness(photos)],
    )


def _medians(contenders: Contenders, photos: Sequence[Path], rounds: int) -> dict[str, list[float]]:
    """The median milliseconds of CPU of each contender for each photo.

    All contenders take turns within a round, so that drift affects all of them.
    """
    taken: dict[str, list[list[float]]] = {key: [[] for _ in photos] for key in contenders}
    for _ in range(rounds):
        for number, photo in enumerate(photos):
            for key, (_, work) in contenders.items():
                taken[key][number].append(cpu_milliseconds(partial(work, photo)))
    return {key: [median(times) for times in by_photo] for key, by_photo in taken.items()}


def _times(contenders: Contenders, medians: dict[str, list[float]]) -> list[Row]:
    return [
        Row(
            key=f"rendering.{key}_ms",
            label=label,
            value=fmean(medians[key]),
            unit="ms",
            note=f"{min(medians[key]):.1f} to {max(medians[key]):.1f} by photo",
        )
        for key, (label, _) in contenders.items()
    ]


def _ratios(medians: dict[str, list[float]]) -> list[Row]:
    compared = (
        ("old", "ours", "the old order against this renderer", Bound(at_least=3.5)),
        ("old_thumbnail", "ours", "the same, with Image.thumbnail", Bound(at_least=3)),
        ("ours", "floor", "this renderer against the reduced decode", Bound(at_most=1.3)),
        ("ours", "former_gap", f"a gap of {REDUCING_GAP} to {FORMER_GAP}", Bound(at_most=1.31)),
        ("process", "ours", "a render process, to rendering in place", Bound(at_most=1.06)),
        ("four_renders", "one_decode", "four renders against one decode", Bound(at_least=2.2)),
    )
    return [
        _ratio(medians[above], medians[below], f"rendering.{above}_over_{below}", label, bound)
        for above, below, label, bound in compared
    ]


def _ratio(above: list[float], below: list[float], key: str, label: str, bound: Bound) -> Row:
    by_photo = [a / b for a, b in zip(above, below, strict=True)]
    return Row(
        key=key,
        label=label,
        value=fmean(above) / fmean(below),
        unit="×",
        digits=2,
        bound=bound,
        note=f"{min(by_photo):.2f} to {max(by_photo):.2f} by photo",
    )


# --- Likeness -----------------------------------------------------------------------------------


def _likeness(photos: Sequence[Path]) -> list[Row]:
    """The worst photo's PSNR: of the decoded files, and of the images before encoding."""
    shipped = [psnr(_decoded(this_renderer(p)), _decoded(old_order(p))) for p in photos]
    encoded = [psnr(to_encode(this_renderer, p), to_encode(old_order, p)) for p in photos]
    return [
        Row(
            key="rendering.psnr_db",
            label="PSNR to the old order, both JPEGs decoded; worst photo",
            value=min(shipped),
            unit="dB",
            bound=Bound(at_least=41),
            note=f"best {max(shipped):.1f}",
        ),
        Row(
            key="rendering.psnr_before_encoding_db",
            label="the same before the JPEG encoder",
            value=min(encoded),
            unit="dB",
            note=f"best {max(encoded):.1f}",
        ),
    ]


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Returns the peak signal-to-noise ratio of all RGB values in dB. Raises ValueError if the
    sizes differ."""
    if one.size != other.size:
        raise ValueError(f"Pictures of {one.size} and {other.size} cannot be compared.")
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return 10 * math.log10(255**2 / float(np.mean(difference**2)))


def _decoded(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def to_encode(work: Work, path: Path) -> Image.Image:
    """Returns the image that the work passes to the encoder."""
    with mock.patch.object(Image.Image, "save", autospec=True) as save:
        work(path)
    image: Image.Image = save.call_args.args[0]
    return image

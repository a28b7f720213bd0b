"""This project's renderer beside others, in turns and on the same pictures."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

import pi_heif
import PIL
from PIL import Image

from benchmarks import rendering
from benchmarks.meters import cpu_milliseconds
from benchmarks.others import environment
from benchmarks.others.process import Process
from benchmarks.report import Bound, Row, Section
from benchmarks.site import ROOT, NothingToMeasure
from thumbnails.rendering import Recipe
from thumbnails.rendering.render import render

OURS = "this project"
SIDE, QUALITY = 256, 85
SHARPS_PICTURE = "2569067123_aca715a2ee_o.jpg"
"""What sharp's own benchmark resizes; it is in its repository, not in its package."""
SHARPS_SIDE, SHARPS_QUALITY = 720, 80

CPU_AT_MOST = Bound(at_most=0.95)
PSNR_AT_LEAST = Bound(at_least=-1.5)
HEIC_AT_MOST = Bound(at_most=1.2)

Ask = Callable[[Path, int, int], "Answer | None"]
"""A picture, side and quality. None if the renderer does not take the picture."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What rendering a picture took, and the thumbnail's size."""

    milliseconds: float
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Pictures to fit inside a square."""

    key: str
    label: str
    pictures: Sequence[Path]
    side: int = SIDE
    quality: int = QUALITY
    is_photo: bool = False
    """It is bounded by what libvips takes, and has to be as true."""


def measure(
    phone: Mapping[int, Sequence[Path]],
    web: Mapping[str, Path],
    heics: Sequence[Path],
    *,
    rounds: int,
    sharps_picture: Path | None,
    with_sharp: bool = True,
) -> Section:
    """Bytes on disk to the bytes of a JPEG, with one thread each.

    `phone` has photos by megapixels, `web` pictures by their format.
    """
    tasks = [
        Task(
            key=f"photo_{megapixels}",
            label=f"a photo of {megapixels} megapixels",
            pictures=photos,
            is_photo=True,
        )
        for megapixels, photos in phone.items()
    ]
    tasks += [
        Task(key=f"web_{number}", label=f"{name}, 3 megapixels", pictures=[path])
        for number, (name, path) in enumerate(web.items())
    ]
    if sharps_picture is not None:
        tasks.append(
            Task(
                key="sharps",
                label=f"sharp's to {SHARPS_SIDE} px",
                pictures=[sharps_picture],
                side=SHARPS_SIDE,
                quality=SHARPS_QUALITY,
            )
        )
    rows: list[Row] = []
    with _renderers(with_sharp=with_sharp) as (renderers, labels):
        for task in tasks:
            means = _means(task, renderers, rounds)
            rows += _time_rows(task, means, labels)
            if task.is_photo:
                rows += [_cpu_row(task, means), _likeness_row(task)]
        if heics:
            rows += _heic_rows(heics, renderers, labels, rounds)
    if sharps_picture is None:
        rows.append(_without_sharps_picture())
    return Section(
        title=f"Beside other renderers: CPU of one thread, file to a JPEG of {SIDE} px", rows=rows
    )


def make_heics(folder: Path, photos: Sequence[Path]) -> list[Path]:
    """Write the photos as HEICs, with the library that the other ones are installed with."""
    folder.mkdir(parents=True, exist_ok=True)
    heics = []
    for photo in photos:
        heics.append(folder / f"{photo.stem}.heic")
        command = [environment.python(), "-m", "benchmarks.others.heic", photo, heics[-1]]
        subprocess.run([*map(str, command)], cwd=ROOT, check=True)  # noqa: S603  ours
    return heics


# --- Renderers ----------------------------------------------------------------------------------


@contextmanager
def libvips() -> Iterator[Process]:
    """Yields its process."""
    process = Process([sys.executable, "-m", "benchmarks.others.vips"])
    try:
        yield process
    finally:
        process.end()


def milliseconds_of_libvips(process: Process, photos: Sequence[Path]) -> float:
    """Returns what its thumbnails of all the photos take."""
    answers = (asked(process, photo, SIDE, QUALITY) for photo in photos)
    return sum(answer.milliseconds for answer in answers if answer is not None)


def asked(process: Process, path: Path, side: int, quality: int) -> Answer | None:
    answer = process.ask([str(path), side, quality])
    if "error" in answer:
        return None
    width, height = answer["size"]
    return Answer(answer["ms"], (width, height))


@contextmanager
def _renderers(*, with_sharp: bool) -> Iterator[tuple[dict[str, Ask], dict[str, str]]]:
    node = shutil.which("node") if with_sharp else None
    modules = environment.node_modules() if node else None
    with ExitStack() as stack:
        vips = stack.enter_context(libvips())
        renderers: dict[str, Ask] = {"ours": _ours, "vips": partial(asked, vips)}
        labels = {"ours": f"{OURS}, Pillow {PIL.__version__}"}
        labels["vips"] = f"libvips {vips.greeting['version']}"
        if node and modules:
            sharp = Process([node, ROOT / "benchmarks" / "others" / "sharp.mjs", modules])
            stack.callback(sharp.end)
            renderers["sharp"] = partial(asked, sharp)
            labels["sharp"] = f"sharp {sharp.greeting['version']}"
        yield renderers, labels


def _ours(path: Path, side: int, quality: int) -> Answer:
    recipe = Recipe(size_px=side, quality=quality)
    sizes: list[tuple[int, int]] = []

    def work() -> None:
        with path.open("rb") as file:
            made = render(file, recipe, fingerprint="0" * 16, max_pixels=10**9)
        sizes.append((made.width, made.height))

    return Answer(cpu_milliseconds(work), sizes[0])


def _heic_decoded(path: Path, side: int, _: int) -> Answer:
    """The floor: decoding all pixels, which libheif cannot reduce."""

    def work() -> None:
        pi_heif.open_heif(path).to_pillow().load()

    return Answer(cpu_milliseconds(work), (side, side))


# --- Rows ---------------------------------------------------------------------------------------


def _time_rows(task: Task, means: dict[str, float], labels: dict[str, str]) -> list[Row]:
    return [
        Row(
            key=f"renderers.{name}_{task.key}_ms",
            label=f"{task.label}: {label}",
            value=means.get(name),
            unit="ms",
            note=_beside_ours(name, means),
        )
        for name, label in labels.items()
    ]


def _beside_ours(name: str, means: dict[str, float]) -> str:
    if name not in means:
        return "it does not take the format"
    return "" if name == "ours" else f"{means[name] / means['ours']:.2f} × ours"


def _cpu_row(task: Task, means: dict[str, float]) -> Row:
    return Row(
        key=f"renderers.{task.key}_over_vips",
        label=f"{task.label}: this project to libvips",
        value=means["ours"] / means["vips"],
        unit="×",
        digits=2,
        bound=CPU_AT_MOST,
    )


def _means(task: Task, renderers: dict[str, Ask], rounds: int) -> dict[str, float]:
    """Of the medians by picture, of all that take the pictures; the first round warms up."""
    taken: dict[str, list[list[float]]] = {name: [[] for _ in task.pictures] for name in renderers}
    for number in range(rounds + 1):
        for index, picture in enumerate(task.pictures):
            for name in list(taken):
                answer = renderers[name](picture, task.side, task.quality)
                if answer is None:
                    del taken[name]
                    continue
                if max(answer.size) != task.side:
                    raise NothingToMeasure(f"{name} rendered {answer.size} of {picture.name}.")
                if number:
                    taken[name][index].append(answer.milliseconds)
    return {name: fmean(map(median, by_picture)) for name, by_picture in taken.items()}


def _likeness_row(task: Task) -> Row:
    """By what each passes to the encoder, beside the same of all pixels in full."""
    likenesses = []
    with libvips() as process:
        for photo in task.pictures:
            exact = rendering.to_encode(rendering.old_order, photo)
            ours = rendering.psnr(rendering.to_encode(rendering.this_renderer, photo), exact)
            theirs = rendering.psnr(_pixels_of_libvips(process, photo), exact)
            likenesses.append((ours - theirs, ours, theirs))
    difference, ours, theirs = min(likenesses)
    return Row(
        key=f"renderers.{task.key}_psnr_db",
        label=f"{task.label}: PSNR, less libvips'; worst photo",
        value=difference,
        unit="dB",
        bound=PSNR_AT_LEAST,
        note=f"{ours:.1f} dB and {theirs:.1f}, to LANCZOS of all pixels, before the JPEG encoder",
    )


def _pixels_of_libvips(process: Process, photo: Path) -> Image.Image:
    target = photo.with_name(f"{photo.name}.libvips.png")
    process.ask([str(photo), SIDE, QUALITY, str(target)])
    try:
        return Image.open(io.BytesIO(target.read_bytes())).convert("RGB")
    finally:
        target.unlink()


def _heic_rows(
    heics: Sequence[Path], renderers: dict[str, Ask], labels: dict[str, str], rounds: int
) -> list[Row]:
    task = Task(key="heic", label="a HEIC of 12 megapixels", pictures=heics)
    means = _means(task, {**renderers, "decoder": _heic_decoded}, rounds)
    label = f"its decoder alone, pi-heif {pi_heif.__version__}"
    return [
        *_time_rows(task, means, {**labels, "decoder": label}),
        Row(
            key="renderers.heic_over_decoder",
            label="a HEIC: this project to its decoder alone",
            value=means["ours"] / means["decoder"],
            unit="×",
            digits=2,
            bound=HEIC_AT_MOST,
        ),
    ]


def _without_sharps_picture() -> Row:
    return Row(
        key="renderers.ours_sharps_ms",
        label="sharp's benchmark picture",
        value=None,
        unit="ms",
        note=f"--sharps-picture FILE names it: {SHARPS_PICTURE} of sharp's repository",
    )

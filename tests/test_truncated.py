"""Originals that break off: refused, or shown as far as they go, by THUMBNAIL_SHOW_TRUNCATED."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset
from thumbnails.exceptions import Unreadable, Unsupported
from thumbnails.models import ImageAsset, State, clock
from thumbnails.models.results import NO_THUMBNAIL
from thumbnails.rendering import Note, Recipe, Rendering
from thumbnails.rendering.render import render
from thumbnails.storage import originals
from thumbnails.upkeep.images import freshness, importing, pools, serving
from thumbnails.upkeep.selection.conditions import Selection

Build = Callable[[], bytes]

SIZE = (96, 64)
PHOTO = pictures.photo(*SIZE)
RECIPE = Recipe(size_px=48)
WHITE, GREY = 255, 128
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row, and steps between columns and rows (PNG, 8.2)."""


def rendered(data: bytes, *, show_truncated: bool = True) -> Rendering:
    return render(
        BytesIO(data),
        RECIPE,
        fingerprint="",
        max_pixels=10**6,
        show_truncated=show_truncated,
    )


def pixels(rendering: Rendering) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(pictures.opened(rendering.content).convert("RGB"), np.int16)


def png(mode: str) -> Build:
    return lambda: pictures.png(PHOTO, mode=mode)


def full_palette() -> bytes:
    return pictures.saved(PHOTO.quantize(256), "PNG")


def baseline() -> bytes:
    return pictures.jpeg(PHOTO)


def progressive() -> bytes:
    return pictures.saved(PHOTO, "JPEG", progressive=True, quality=90)


def interlaced() -> bytes:
    """A PNG of seven passes, each with fewer gaps, as Pillow does not write it."""
    whole = np.asarray(PHOTO)
    raw = b"".join(
        b"\0" + row.tobytes() for x, y, right, down in PASSES for row in whole[y::down, x::right]
    )
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


FROM_THE_TOP = {
    "JPEG": (baseline, GREY),
    "JPEG-grey": (lambda: pictures.jpeg(PHOTO, mode="L"), GREY),
    "JPEG-double": (lambda: pictures.mpo(PHOTO), GREY),
    "PNG-full-palette": (full_palette, WHITE),
} | {f"PNG-{mode}": (png(mode), WHITE) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}
IN_PASSES = {"JPEG-progressive": progressive, "PNG-interlaced": interlaced}


@pytest.mark.parametrize(("build", "missing"), FROM_THE_TOP.values(), ids=FROM_THE_TOP)
def test_render__shows_a_picture_up_to_where_it_breaks(build: Build, missing: int) -> None:
    data = build()
    whole = rendered(data)
    assert whole.note == ""
    half = rendered(pictures.truncated(data, keep=0.6))
    assert (half.note, half.width, half.height) == ("truncated", whole.width, whole.height)
    assert abs(pixels(half)[:8] - pixels(whole)[:8]).max() < 24
    assert abs(pixels(half)[-4:] - missing).max() < 24


@pytest.mark.parametrize("build", IN_PASSES.values(), ids=IN_PASSES)
def test_render__shows_a_picture_that_comes_in_passes_coarsely(build: Build) -> None:
    data = build()
    whole = pixels(rendered(data))
    for keep in (0.9, 0.6, 0.3, 0.1):
        part = rendered(pictures.truncated(data, keep=keep))
        assert part.note == "truncated"
        assert abs(pixels(part) - whole).mean() < 30, keep


def test_render__shows_a_jpeg_wherever_its_data_breaks() -> None:
    """Also within the tables between two scans, of which a decoder refuses a part."""
    data = progressive()
    first_scan = data.index(b"\xff\xda")
    tables = [at for at in range(first_scan, len(data)) if data.startswith(b"\xff\xc4", at)]
    assert len(tables) > 3
    for end in (end for at in tables for end in (at + 1, at + 3, at + 9, at + 30)):
        assert rendered(data[:end]).note == "truncated"


@pytest.mark.parametrize("build", [baseline, progressive, interlaced, full_palette])
def test_render__of_what_breaks_off_anywhere_ends_well(build: Build) -> None:
    data = build()
    whole = rendered(data)
    for end in range(0, len(data), len(data) // 40):
        if end > len(data) / 5:
            part = rendered(data[:end])
            assert part.note == "truncated" or part == whole
        else:  # within the header
            with suppress(Unreadable, Unsupported):
                rendered(data[:end])


@pytest.mark.parametrize("build", [png("RGB"), interlaced])
def test_render__shows_a_png_up_to_where_it_is_damaged(build: Build) -> None:
    data = bytearray(build())
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 2 + 1 : len(data) // 2 + 40] = bytes(39)
    part = rendered(bytes(data))
    assert part.note == "truncated"


def test_render__turns_what_is_there_upright() -> None:
    data = pictures.truncated(pictures.jpeg(PHOTO, orientation=6), keep=0.7)
    part = rendered(data)
    assert (part.note, part.width, part.height) == ("truncated", 48, 32)
    assert abs(pixels(part)[:, :4] - GREY).max() < 8  # the last rows as they are stored


@pytest.mark.parametrize("build", [pictures.gif, pictures.webp, pictures.bmp, pictures.tiff])
def test_render__refuses_other_formats_that_break_off(build: Callable[..., bytes]) -> None:
    with pytest.raises((Unreadable, Unsupported)):
        rendered(pictures.truncated(build(PHOTO)))


def test_render__refuses_a_picture_of_which_nothing_is_there() -> None:
    header_only = {
        "JPEG": pictures.jpeg(PHOTO).partition(b"\xff\xda")[0],
        "scan without data": (whole := pictures.jpeg(PHOTO))[: whole.index(b"\xff\xda") + 14],
        "PNG": (whole := pictures.png(PHOTO))[: whole.index(b"IDAT") + 12],
    }
    for data in header_only.values():
        with pytest.raises(Unreadable):
            rendered(data)


def test_render__refuses_what_breaks_off_unless_it_is_asked_for() -> None:
    with pytest.raises(Unreadable, match="truncated"):
        rendered(pictures.truncated(), show_truncated=False)


# --- The setting ----------------------------------------------------------------------------------


@pytest.fixture
def truncated(make_asset: MakeAsset, settings: Settings) -> ImageAsset:
    """One that is shown in part."""
    settings.THUMBNAIL_SHOW_TRUNCATED = True
    return refreshed(make_asset(pictures.truncated(baseline())))


def path_of(asset: ImageAsset) -> Path:
    return Path(originals.storage().path(str(asset.original.name)))


def refreshed(asset: ImageAsset, *, force: bool = False) -> ImageAsset:
    since = clock.now() if force else None
    freshness.refresh_now(asset.pk, pools.web_pool(), rendered_since=since)
    return ImageAsset.objects.get(pk=asset.pk)


@pytest.mark.django_db
def test_setting__shows_what_is_there_fresh_and_notes_it(truncated: ImageAsset) -> None:
    assert (truncated.state, truncated.note) == (State.FRESH, "truncated")
    assert list(Selection(notes=(Note.TRUNCATED,)).assets()) == [truncated]
    ImageAsset.objects.update(facts_version=0)  # described again by the next render
    again = refreshed(truncated, force=True)
    assert (again.note, again.facts_version) == ("truncated", truncated.facts_version)


@pytest.mark.django_db
def test_setting__that_is_off_refuses_what_breaks_off(make_asset: MakeAsset) -> None:
    asset = refreshed(make_asset(pictures.truncated(baseline())))
    assert (asset.state, asset.thumbnail_error, asset.note) == (State.FAILED, "unreadable", "")


@pytest.mark.django_db
def test_setting__makes_no_other_recipe(truncated: ImageAsset, settings: Settings) -> None:
    """What is fresh stays so; what had failed is shown once it is tried again, as runs do."""
    settings.THUMBNAIL_SHOW_TRUNCATED = False
    (path_of(truncated).parent / "other.jpg").write_bytes(pictures.truncated(baseline()))
    failed = refreshed(importing.import_file(path_of(truncated).parent / "other.jpg"))
    assert refreshed(truncated).state == State.FRESH
    settings.THUMBNAIL_SHOW_TRUNCATED = True
    assert list(ImageAsset.objects.not_fresh()) == [failed]
    assert refreshed(failed).state == State.FRESH
    # Switched off again, a thumbnail stays until it is rendered, and then is kept and served.
    settings.THUMBNAIL_SHOW_TRUNCATED = False
    kept = refreshed(truncated, force=True)
    assert (kept.state, kept.note) == (State.FAILED, "truncated")
    assert kept.thumbnail_path


@pytest.mark.django_db
def test_note__goes_with_a_whole_original(truncated: ImageAsset) -> None:
    path_of(truncated).write_bytes(baseline())
    whole = refreshed(truncated)
    assert (whole.state, whole.note) == (State.FRESH, "")


@pytest.mark.django_db
def test_note__is_written_where_only_the_file_was(truncated: ImageAsset) -> None:
    """A crash between file and row must not make it one that is shown as a whole."""
    ImageAsset.objects.update(note="", **asdict(NO_THUMBNAIL))
    assert refreshed(truncated).note == "truncated"


@pytest.mark.django_db
def test_upload__that_breaks_off_is_refused_all_the_same(settings: Settings) -> None:
    settings.THUMBNAIL_SHOW_TRUNCATED = True
    with pytest.raises(Unreadable):
        serving.render_upload(BytesIO(pictures.truncated(baseline())))


@pytest.mark.django_db
def test_preview__shows_what_a_run_would(truncated: ImageAsset) -> None:
    found = serving.preview(truncated, patience_seconds=30)
    assert found.note == "truncated"

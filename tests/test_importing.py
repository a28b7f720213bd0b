"""Originals come to be known: once, by their header, and nothing bad among them stops the rest."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tests import permissions, pictures
from tests.conftest import MakeAsset, Manage, RunCommand
from tests.processes import COMMAND_SECONDS, ROOT
from tests.programs import program
from thumbnails.exceptions import Reason, Unsupported, UsageError
from thumbnails.models import ImageAsset, State, TrainingSession
from thumbnails.models.assets import NAME_LENGTH
from thumbnails.rendering import Facts
from thumbnails.rendering.pool import OpenFile, RenderPool
from thumbnails.storage import originals
from thumbnails.upkeep.images import importing, pools, serving
from thumbnails.upkeep.images.importing import ImportOutcome, ImportResult

pytestmark = pytest.mark.django_db

ADDED, UPDATED, KNOWN, REFUSED = (
    ImportOutcome.ADDED,
    ImportOutcome.UPDATED,
    ImportOutcome.KNOWN,
    ImportOutcome.REFUSED,
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is not below ORIGINALS_DIR."""
    folder = tmp_path / "camera"
    folder.mkdir()
    return folder


def put(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pictures.jpeg() if data is None else data)
    return path


def change(path: Path, data: bytes) -> None:
    """Write it again, a minute later."""
    later_ns = path.stat().st_mtime_ns + 60 * 10**9
    path.write_bytes(data)
    os.utime(path, ns=(later_ns, later_ns))


def imported(*paths: Path, session: str = "") -> list[ImportResult]:
    return list(importing.import_files(importing.find_files(paths), session=session))


def results(*paths: Path, session: str = "") -> dict[str, ImportOutcome]:
    return {one.path.name: one.outcome for one in imported(*paths, session=session)}


def names() -> set[str]:
    return set(ImageAsset.objects.values_list("original", flat=True))


def the_copy(asset: ImageAsset, originals_dir: Path) -> Path:
    return originals_dir / str(asset.original.name)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- Once -----------------------------------------------------------------------------------------


def test_import__adds_each_once(originals_dir: Path) -> None:
    for name in ("b.jpg", "a.jpg", "2026/11/c.jpg"):
        put(originals_dir / name)
    first = imported(originals_dir)
    assert [(one.path.name, one.outcome) for one in first] == [
        ("a.jpg", ADDED),
        ("b.jpg", ADDED),
        ("c.jpg", ADDED),
    ]
    assert names() == {"a.jpg", "b.jpg", "2026/11/c.jpg"}
    put(originals_dir / "d.jpg")
    assert results(originals_dir) == {
        "a.jpg": KNOWN,
        "b.jpg": KNOWN,
        "c.jpg": KNOWN,
        "d.jpg": ADDED,
    }
    assert ImageAsset.objects.count() == 4


def test_import__takes_a_file_that_is_named_twice_once(originals_dir: Path) -> None:
    path = put(originals_dir / "a.jpg")
    assert [one.outcome for one in imported(path, originals_dir)] == [ADDED, KNOWN]
    assert ImageAsset.objects.count() == 1


def test_import__records_what_the_header_says(originals_dir: Path) -> None:
    put(originals_dir / "a.jpg", pictures.jpeg(pictures.scene(80, 60), orientation=6, mode="L"))
    imported(originals_dir)
    asset = ImageAsset.objects.get()
    facts = (asset.width, asset.height, asset.format, asset.mode, asset.orientation)
    assert facts == (60, 80, "JPEG", "L", 6)
    assert asset.source_version == originals.source_version("a.jpg")
    assert asset.state == State.MISSING


def test_import__updates_what_changed(originals_dir: Path, make_asset: MakeAsset) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(64, 48)), name="a.jpg")
    other = make_asset(name="b.jpg")
    serving.serve(asset)
    serving.serve(other)
    assert ImageAsset.objects.fresh().count() == 2
    change(originals_dir / "a.jpg", pictures.png(pictures.scene(30, 90), mode="L"))
    assert results(originals_dir) == {"a.jpg": UPDATED, "b.jpg": KNOWN}
    changed = ImageAsset.objects.stale().get()
    assert changed.pk == asset.pk
    assert (changed.width, changed.height, changed.format, changed.mode) == (30, 90, "PNG", "L")
    assert changed.thumbnail_path == asset.thumbnail_name
    assert results(originals_dir) == {"a.jpg": KNOWN, "b.jpg": KNOWN}


def test_import__updates_what_changed_in_time_only(
    originals_dir: Path, make_asset: MakeAsset
) -> None:
    make_asset(pictures.gif(), name="a.gif")
    change(originals_dir / "a.gif", pictures.gif())
    assert results(originals_dir) == {"a.gif": UPDATED}


def test_import__keeps_what_it_knows_of_a_file_that_became_bad(
    originals_dir: Path, make_asset: MakeAsset
) -> None:
    asset = make_asset(name="a.jpg")
    change(originals_dir / "a.jpg", pictures.TEXT)
    assert results(originals_dir) == {"a.jpg": REFUSED}
    again = ImageAsset.objects.get()
    assert (again.pk, again.format, again.source_version) == (
        asset.pk,
        "JPEG",
        asset.source_version,
    )


@pytest.mark.parametrize(("first", "then"), [(ADDED, KNOWN), (KNOWN, KNOWN), (UPDATED, KNOWN)])
def test_import__asks_the_database_the_same_for_any_number(
    originals_dir: Path, first: ImportOutcome, then: ImportOutcome
) -> None:
    counts = []
    for number in (1, 40):
        folder = originals_dir / str(number)
        paths = [put(folder / f"{n}.bmp", pictures.bmp()) for n in range(number)]
        if first != ADDED:
            imported(folder)
        if first == UPDATED:
            for path in paths:
                change(path, pictures.bmp())
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert set(results(folder).values()) == {first}
        assert set(results(folder).values()) == {then}
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_import__asks_the_database_once_for_each_batch(
    originals_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        put(originals_dir / f"{number:02}.bmp", pictures.bmp())

    def queries_with_batches_of(size: int) -> int:
        monkeypatch.setattr(importing, "BATCH", size)
        with CaptureQueriesContext(connection) as queries:
            assert [one.outcome for one in imported(originals_dir)] == [KNOWN] * 12
        return len(queries)

    monkeypatch.setattr(importing, "BATCH", 5)
    assert [one.outcome for one in imported(originals_dir)] == [ADDED] * 12
    assert ImageAsset.objects.count() == 12
    assert queries_with_batches_of(4) == 3 * queries_with_batches_of(12)


# --- By the header --------------------------------------------------------------------------------


NO_DECODER = """
import sys

if "thumbnails.rendering.process" in sys.orig_argv:
    from PIL import Image, ImageFile

    def fail(*_):
        raise RuntimeError("a picture was decoded")

    Image.init()
    ImageFile.ImageFile.load = fail
    for kind, _ in Image.OPEN.values():
        if isinstance(kind, type) and "load" in vars(kind):
            kind.load = fail
"""


@pytest.fixture
def no_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Render processes that are started now read headers alone."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_DECODER)
    monkeypatch.syspath_prepend(folder)
    pools.close_all()
    yield
    pools.close_all()


def test_import__goes_by_the_header_and_not_by_the_name(originals_dir: Path) -> None:
    put(originals_dir / "notes.txt", pictures.png())
    put(originals_dir / "no-ending", pictures.webp())
    put(originals_dir / "wrong.jpg", pictures.gif())
    put(originals_dir / "picture.jpg", pictures.TEXT)
    assert results(originals_dir) == {
        "no-ending": ADDED,
        "notes.txt": ADDED,
        "picture.jpg": REFUSED,
        "wrong.jpg": ADDED,
    }
    assert dict(ImageAsset.objects.values_list("original", "format")) == {
        "no-ending": "WEBP",
        "notes.txt": "PNG",
        "wrong.jpg": "GIF",
    }


@pytest.mark.parametrize(
    "build",
    [
        pictures.jpeg,
        pictures.mpo,
        pictures.png,
        pictures.gif,
        pictures.webp,
        pictures.avif,
        pictures.tiff,
        pictures.bmp,
    ],
)
def test_import__decodes_nothing(
    build: Callable[[], bytes], originals_dir: Path, no_decoder: None
) -> None:
    path = put(originals_dir / "a", build())
    with path.open("rb") as file:
        pool = pools.worker_pool(large=False)
        assert not pool.is_whole(file, name="a", max_pixels=10**6)  # the decoder is away
    assert results(originals_dir) == {"a": ADDED}


def test_import__adds_a_truncated_picture(originals_dir: Path) -> None:
    """Its header is whole; what is wrong comes to light when it is rendered."""
    put(originals_dir / "a", pictures.truncated())
    assert results(originals_dir) == {"a": ADDED}


# --- Refused --------------------------------------------------------------------------------------

BAD = {
    "text.jpg": (pictures.TEXT, Reason.UNSUPPORTED, "This is a text file"),
    "empty.jpg": (pictures.EMPTY, Reason.UNSUPPORTED, "This is an empty file"),
    "vector.jpg": (pictures.eps(), Reason.UNSUPPORTED, "This is a PostScript document"),
    "layers.jpg": (pictures.psd(), Reason.UNSUPPORTED, "This is a Photoshop document"),
    "huge.png": (pictures.bomb(), Reason.TOO_LARGE, "pixels"),
    "large.png": (pictures.bomb(20_000, 15_000), Reason.TOO_LARGE, "pixels"),
}
"""Each with why it is refused; the last has more pixels than allowed, but not twice as many."""


def test_import__refuses_the_bad_and_takes_the_rest(outside: Path, originals_dir: Path) -> None:
    for name, (data, _, _) in BAD.items():
        put(outside / name, data)
    put(outside / "good.jpg")
    found = {one.path.name: one for one in imported(outside)}
    assert found.pop("good.jpg").outcome == ADDED
    assert {name: (one.outcome, one.reason) for name, one in found.items()} == {
        name: (REFUSED, reason) for name, (_, reason, _) in BAD.items()
    }
    for name, (_, _, words) in BAD.items():
        assert words in found[name].detail
    assert ImageAsset.objects.count() == 1
    assert [Path(name).name for name in files_below(originals_dir)] == ["good.jpg"]


def test_import__refuses_more_pixels_than_the_site_decodes(
    originals_dir: Path, settings: Settings
) -> None:
    settings.THUMBNAIL_MAX_PIXELS = 64 * 48 - 1
    put(originals_dir / "a.png", pictures.png())
    (one,) = imported(originals_dir)
    assert one.reason == Reason.TOO_LARGE
    assert "64 × 48" in one.detail


def test_import__refuses_what_went_since_it_was_listed(originals_dir: Path) -> None:
    gone, stays = put(originals_dir / "gone.jpg"), put(originals_dir / "stays.jpg")
    files = list(importing.find_files([originals_dir]))
    gone.unlink()
    found = list(importing.import_files(files))
    assert [(one.path, one.outcome, one.reason) for one in found] == [
        (gone, REFUSED, Reason.SOURCE_MISSING),
        (stays, ADDED, None),
    ]
    assert "gone.jpg" in found[0].detail


def test_import__refuses_what_it_may_not_read(originals_dir: Path) -> None:
    put(originals_dir / "good.jpg")
    secret, locked = originals_dir / "secret.jpg", originals_dir / "locked"
    put(secret).chmod(0)
    put(locked / "a.jpg").parent.chmod(0)
    with permissions.binding():
        found = {one.path: one for one in imported(originals_dir)}
    locked.chmod(0o700)
    assert found.pop(originals_dir / "good.jpg").outcome == ADDED
    # A folder that cannot be listed is not passed over in silence.
    assert found.keys() == {secret, locked}
    for one in found.values():
        assert (one.outcome, one.reason) == (REFUSED, Reason.STORAGE_ERROR)
        assert "Permission denied" in one.detail


def name_of_latin_1() -> str:
    return os.fsdecode("Köln.jpg".encode("latin-1"))


@pytest.mark.parametrize("place", ["outside", "originals_dir"])
def test_import__refuses_a_name_that_is_no_text(
    place: str, request: pytest.FixtureRequest, originals_dir: Path
) -> None:
    folder: Path = request.getfixturevalue(place)
    put(folder / name_of_latin_1())
    put(folder / "Köln.jpg")
    found = {one.path.name: one for one in imported(folder)}
    assert found["Köln.jpg"].outcome == ADDED
    refused = found[name_of_latin_1()]
    assert (refused.outcome, refused.reason) == (REFUSED, Reason.UNSUPPORTED)
    assert "UTF-8" in refused.detail
    assert ImageAsset.objects.count() == 1


@pytest.mark.parametrize(
    ("place", "character"),
    [*(("outside", character) for character in "\n\x1b\x7f\x9b"), ("originals_dir", "\n")],
)
def test_import__refuses_a_name_with_control_characters(
    place: str, character: str, request: pytest.FixtureRequest, originals_dir: Path
) -> None:
    folder: Path = request.getfixturevalue(place)
    put(folder / f"a{character}[2J.jpg")
    put(folder / f"b{character}" / "c.jpg")
    for one in imported(folder):
        assert (one.outcome, one.reason) == (REFUSED, Reason.UNSUPPORTED)
        assert "control characters" in one.detail
    assert not ImageAsset.objects.exists()


@pytest.mark.parametrize("place", ["outside", "originals_dir"])
def test_import__refuses_a_name_that_is_too_long(
    place: str, request: pytest.FixtureRequest, originals_dir: Path
) -> None:
    folder: Path = request.getfixturevalue(place)
    deep = folder.joinpath(*["d" * 99] * 5)
    put(deep / "long.jpg")
    (one,) = imported(folder)
    assert (one.outcome, one.reason) == (REFUSED, Reason.UNSUPPORTED)
    assert f"{NAME_LENGTH} characters" in one.detail
    assert not ImageAsset.objects.exists()


def test_import__takes_a_name_as_long_as_can_be(originals_dir: Path) -> None:
    deep = originals_dir.joinpath(*["d" * 99] * 4)
    path = put(deep / ("ü" * 96 + ".jpg"))
    assert len(str(path.relative_to(originals_dir))) == NAME_LENGTH
    assert [one.outcome for one in imported(originals_dir)] == [ADDED]
    assert [one.outcome for one in imported(originals_dir)] == [KNOWN]


def test_import__copies_a_file_whose_name_is_as_long_as_the_disk_allows(outside: Path) -> None:
    put(outside / ("n" * 251 + ".jpg"))
    assert [(one.outcome, one.detail) for one in imported(outside)] == [(ADDED, "")]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails what waits for ever."""

    def too_long(*_: object) -> None:
        pytest.fail(f"nothing happened for {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_import__refuses_what_is_no_file(
    originals_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(originals_dir / "pipe.jpg")
    # A socket's path must be short.
    monkeypatch.chdir(originals_dir)
    with socket.socket(socket.AF_UNIX) as listening, at_most(seconds=20):
        listening.bind("socket.jpg")
        put(originals_dir / "file.jpg")
        found = results(originals_dir)
    assert found == {"file.jpg": ADDED, "pipe.jpg": REFUSED, "socket.jpg": REFUSED}


# --- From elsewhere -------------------------------------------------------------------------------


def test_copy__has_the_same_bytes_and_time(outside: Path, originals_dir: Path) -> None:
    data = pictures.jpeg(orientation=8, comment=b"kept")
    source = put(outside / "2026" / "a b.jpg", data)
    os.utime(source, ns=(1, 1_600_000_000_123_456_000))
    assert results(outside) == {"a b.jpg": ADDED}
    asset = ImageAsset.objects.get()
    copy = the_copy(asset, originals_dir)
    assert copy.read_bytes() == source.read_bytes() == data
    assert copy.name == "a b.jpg"
    assert asset.source_version == originals.source_version(str(asset.original.name))
    assert files_below(originals_dir) == [str(asset.original.name)]


def test_copy__is_made_once(outside: Path, originals_dir: Path) -> None:
    put(outside / "a.jpg")
    imported(outside)
    copy = the_copy(ImageAsset.objects.get(), originals_dir)
    before = copy.stat()
    assert results(outside) == {"a.jpg": KNOWN}
    # And a file among the originals is recorded where it lies, a copy too.
    assert results(originals_dir) == {"a.jpg": KNOWN}
    assert copy.stat().st_ino == before.st_ino
    assert ImageAsset.objects.count() == 1


def test_copy__follows_its_source(outside: Path, originals_dir: Path) -> None:
    source = put(outside / "a.jpg", pictures.jpeg())
    imported(outside)
    asset = ImageAsset.objects.get()
    serving.serve(asset)
    newer = pictures.jpeg(pictures.scene(30, 90))
    change(source, newer)
    assert results(outside) == {"a.jpg": UPDATED}
    changed = ImageAsset.objects.stale().get()
    assert (changed.pk, changed.width, changed.height) == (asset.pk, 30, 90)
    assert the_copy(changed, originals_dir).read_bytes() == newer


def test_copy__of_a_source_that_became_bad_stays(outside: Path, originals_dir: Path) -> None:
    source = put(outside / "a.jpg", pictures.jpeg())
    imported(outside)
    change(source, pictures.TEXT)
    assert results(outside) == {"a.jpg": REFUSED}
    assert the_copy(ImageAsset.objects.get(), originals_dir).read_bytes() == pictures.jpeg()


def test_copy__that_was_lost_is_brought_back(outside: Path, originals_dir: Path) -> None:
    put(outside / "a.jpg")
    imported(outside)
    copy = the_copy(ImageAsset.objects.get(), originals_dir)
    copy.unlink()
    imported(outside)
    assert copy.read_bytes() == pictures.jpeg()
    assert ImageAsset.objects.count() == 1


def test_copy__of_a_folder_of_the_same_name_overwrites_nothing(
    tmp_path: Path, originals_dir: Path
) -> None:
    one = put(tmp_path / "phone" / "DCIM" / "1.jpg", pictures.jpeg(pictures.scene(20, 10)))
    two = put(tmp_path / "camera" / "DCIM" / "1.jpg", pictures.jpeg(pictures.scene(10, 20)))
    for source in (one, two):
        assert results(source.parent) == {"1.jpg": ADDED}
    sizes = {
        pictures.opened(the_copy(asset, originals_dir).read_bytes()).size: (
            asset.width,
            asset.height,
        )
        for asset in ImageAsset.objects.all()
    }
    assert sizes == {(20, 10): (20, 10), (10, 20): (10, 20)}


def test_copy__of_a_file_is_the_same_as_of_its_folder(outside: Path) -> None:
    path = put(outside / "a.jpg")
    put(outside / "b.jpg")
    assert results(path) == {"a.jpg": ADDED}
    assert results(outside) == {"a.jpg": KNOWN, "b.jpg": ADDED}


def test_copy__keeps_the_folders_below(outside: Path) -> None:
    put(outside / "2026" / "1.jpg")
    put(outside / "2027" / "1.jpg")
    assert [one.outcome for one in imported(outside)] == [ADDED, ADDED]
    assert ImageAsset.objects.count() == 2


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """As on a full disk, but only for larger files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_copy__that_fails_half_way_leaves_nothing(outside: Path, originals_dir: Path) -> None:
    large = put(outside / "large.jpg")
    os.truncate(large, 80_000_000)
    put(outside / "small.jpg")
    with largest_file(40_000_000):
        found = {one.path.name: one for one in imported(outside)}
    assert found["small.jpg"].outcome == ADDED
    assert (found["large.jpg"].outcome, found["large.jpg"].reason) == (
        REFUSED,
        Reason.STORAGE_ERROR,
    )
    assert "File too large" in found["large.jpg"].detail
    assert [Path(name).name for name in files_below(originals_dir)] == ["small.jpg"]


DIE_HALF_WAY = """
import os
from django.core.management import call_command

read = os.pread

def read_half(file, size, offset):
    if offset:
        os.kill(os.getpid(), 9)
    return read(file, size // 2, 0)

os.pread = read_half
call_command("import_images", sys.argv[1])
"""


def test_copy__that_was_killed_half_way_is_no_original(
    outside: Path, originals_dir: Path, process_environment: dict[str, str]
) -> None:
    put(outside / "a.jpg", pictures.jpeg() + bytes(50_000))  # more than a buffer
    died = subprocess.run(
        program(DIE_HALF_WAY, outside), cwd=ROOT, env=process_environment, check=False
    )
    assert died.returncode == -signal.SIGKILL
    (part,) = originals_dir.rglob(".*")
    assert part.stat().st_size > 0
    assert imported(originals_dir) == []
    assert results(outside) == {"a.jpg": ADDED}
    assert [Path(name).name for name in names()] == ["a.jpg"]


def test_copy__with_a_file_in_the_way_is_refused(outside: Path, originals_dir: Path) -> None:
    put(outside / "a.jpg")
    (originals_dir / "imported").write_bytes(b"")
    (one,) = imported(outside)
    assert (one.outcome, one.reason) == (REFUSED, Reason.STORAGE_ERROR)
    assert not ImageAsset.objects.exists()


MODES = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o711}


@pytest.mark.parametrize("umask", [0, 0o077])
@pytest.mark.parametrize(
    ("options", "file_mode", "folder_mode"), [({}, 0o640, 0o750), (MODES, 0o600, 0o711)]
)
def test_copy__has_the_mode_of_the_storage_and_none_of_its_source_s(
    outside: Path,
    originals_dir: Path,
    settings: Settings,
    umask: int,
    options: dict[str, int],
    file_mode: int,
    folder_mode: int,
) -> None:
    storage = settings.STORAGES["originals"]
    storage = {**storage, "OPTIONS": {**storage["OPTIONS"], **options}}
    settings.STORAGES = {**settings.STORAGES, "originals": storage}
    put(outside / "2026" / "a.jpg").chmod(0o4755)
    before = os.umask(umask)
    try:
        assert results(outside) == {"a.jpg": ADDED}
    finally:
        os.umask(before)
    copy = the_copy(ImageAsset.objects.get(), originals_dir)
    assert stat.S_IMODE(copy.stat().st_mode) == file_mode
    folders = [folder for folder in copy.parents if folder.is_relative_to(originals_dir)]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders[:-1]] == [folder_mode] * 3


@pytest.fixture
def once_inspected(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Does something each time after a file was inspected."""

    def add(act: Callable[[], object]) -> None:
        inspect = RenderPool.inspect

        def inspected(pool: RenderPool, file: OpenFile, **options: Any) -> Facts:
            facts = inspect(pool, file, **options)
            act()
            return facts

        monkeypatch.setattr(RenderPool, "inspect", inspected)

    return add


def test_copy__is_of_the_file_that_was_inspected(
    outside: Path, originals_dir: Path, once_inspected: Callable[[Callable[[], object]], None]
) -> None:
    """And not of what has its name by then."""
    source = put(outside / "a.jpg", pictures.jpeg(pictures.scene(20, 10)))
    other = put(outside / "other" / "b.jpg", pictures.jpeg(pictures.scene(30, 90)))
    once_inspected(lambda: other.exists() and other.replace(source))
    before = source.stat()
    assert results(source) == {"a.jpg": ADDED}
    asset = ImageAsset.objects.get()
    copy = the_copy(asset, originals_dir)
    assert copy.stat().st_mtime_ns == before.st_mtime_ns
    assert copy.read_bytes() == pictures.jpeg(pictures.scene(20, 10))
    assert (asset.width, asset.height) == (20, 10)
    assert asset.source_version == originals.source_version(str(asset.original.name))


@pytest.mark.parametrize("place", ["outside", "originals_dir"])
def test_import__refuses_a_file_that_changes_meanwhile(
    place: str,
    request: pytest.FixtureRequest,
    originals_dir: Path,
    once_inspected: Callable[[Callable[[], object]], None],
) -> None:
    folder: Path = request.getfixturevalue(place)
    path = put(folder / "a.jpg")

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    once_inspected(append)
    (one,) = imported(folder)
    assert (one.outcome, one.reason) == (REFUSED, Reason.STORAGE_ERROR)
    assert "changes while it is read" in one.detail
    assert files_below(originals_dir) == ([] if place == "outside" else ["a.jpg"])
    assert not ImageAsset.objects.exists()


def test_import__refuses_a_file_larger_than_the_site_reads(
    outside: Path, originals_dir: Path, settings: Settings
) -> None:
    """Such as a sparse one, whose copy would fill the disk."""
    settings.THUMBNAIL_MAX_BYTES = 2**20
    os.truncate(put(outside / "a.jpg"), 2**20 + 1)
    (one,) = imported(outside)
    assert (one.outcome, one.reason) == (REFUSED, Reason.TOO_LARGE)
    assert files_below(originals_dir) == []


# --- Which files ----------------------------------------------------------------------------------


def test_walk__follows_no_links_to_folders(outside: Path, tmp_path: Path) -> None:
    put(outside / "a.jpg")
    put(tmp_path / "elsewhere" / "b.jpg")
    (outside / "link").symlink_to(tmp_path / "elsewhere")
    (outside / "loop").symlink_to(outside)
    (outside / "deeper").mkdir()
    (outside / "deeper" / "up").symlink_to("..")
    with at_most(seconds=20):
        assert results(outside) == {"a.jpg": ADDED}


def test_walk__follows_the_link_that_is_asked_for(outside: Path, tmp_path: Path) -> None:
    put(outside / "a.jpg")
    (tmp_path / "link").symlink_to(outside)
    assert results(tmp_path / "link") == {"a.jpg": ADDED}
    assert results(outside) == {"a.jpg": KNOWN}


@pytest.mark.parametrize(
    "target",
    [
        "a.jpg",
        "below/b.jpg",
        "{outside}/a.jpg",
        "../camera/a.jpg",
        "link-to-folder/b.jpg",
        ".c.jpg",
    ],
)
def test_walk__takes_a_link_that_stays_inside_for_its_target(
    outside: Path, originals_dir: Path, target: str
) -> None:
    for name in ("a.jpg", "below/b.jpg", ".c.jpg"):
        put(outside / name)
    (outside / "link-to-folder").symlink_to("below")
    (outside / "link.jpg").symlink_to(target.format(outside=outside))
    assert results(outside)["link.jpg"] == ADDED
    (copy,) = originals_dir.rglob("link.jpg")
    assert copy.is_file()
    assert not copy.is_symlink()


@pytest.mark.parametrize("target", ["../private/b.jpg", "{private}/b.jpg", "folder/b.jpg", "over"])
@pytest.mark.parametrize("place", ["outside", "originals_dir"])
def test_walk__refuses_a_link_that_leads_out(
    place: str, target: str, request: pytest.FixtureRequest, originals_dir: Path, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(place)
    private = put(tmp_path / "private" / "b.jpg").parent
    (folder / "folder").symlink_to(private)
    (folder / "over").symlink_to(private / "b.jpg")
    (folder / "link.jpg").symlink_to(target.format(private=private))
    found = {one.path.name: one for one in imported(folder)}
    assert found.keys() == {"link.jpg", "over"}
    for one in found.values():
        assert (one.outcome, one.reason) == (REFUSED, Reason.UNSUPPORTED)
        assert f"leads out of {folder}" in one.detail
    assert not ImageAsset.objects.exists()
    assert not list(originals_dir.rglob("imported"))


def test_walk__refuses_a_link_that_leads_nowhere(outside: Path) -> None:
    (outside / "dangling.jpg").symlink_to(outside / "nowhere")
    (outside / "itself.jpg").symlink_to(outside / "itself.jpg")
    found = {one.path.name: (one.outcome, one.reason) for one in imported(outside)}
    assert found == {
        "dangling.jpg": (REFUSED, Reason.SOURCE_MISSING),
        "itself.jpg": (REFUSED, Reason.STORAGE_ERROR),
    }


def test_walk__takes_the_target_of_a_link_to_a_file_that_is_asked_for(
    outside: Path, tmp_path: Path
) -> None:
    put(outside / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(outside / "a.jpg")
    assert results(tmp_path / "link.jpg") == {"a.jpg": ADDED}


@pytest.mark.parametrize("swapped", ["2026", "2026/11", "2026/11/a.jpg"])
@pytest.mark.parametrize("named", ["", "2026/11/a.jpg"])
def test_walk__is_led_out_by_nothing_that_becomes_a_link_meanwhile(
    outside: Path, originals_dir: Path, tmp_path: Path, swapped: str, named: str
) -> None:
    put(outside / "2026" / "11" / "a.jpg")
    private = put(tmp_path / "private" / "2026" / "11" / "a.jpg").parents[2]
    files = list(importing.find_files([outside / named]))
    (outside / swapped).rename(tmp_path / "away")
    (outside / swapped).symlink_to(private / swapped)
    (one,) = importing.import_files(files)
    assert (one.outcome, one.reason) == (REFUSED, Reason.UNSUPPORTED)
    assert "leads out of" in one.detail
    assert files_below(originals_dir) == []


def test_walk__goes_on_with_a_recorded_original_that_is_a_link(
    originals_dir: Path, tmp_path: Path
) -> None:
    """As earlier versions recorded it: the site serves it already."""
    target = put(tmp_path / "elsewhere" / "a.jpg")
    (originals_dir / "a.jpg").symlink_to(target)
    ImageAsset.objects.create(original="a.jpg", source_version=originals.source_version("a.jpg"))
    assert results(originals_dir) == {"a.jpg": KNOWN}
    change(target, pictures.png())
    assert results(originals_dir) == {"a.jpg": UPDATED}
    assert ImageAsset.objects.get().format == "PNG"


def test_walk__passes_over_what_is_hidden_and_counts_it(
    run_command: RunCommand, outside: Path, originals_dir: Path
) -> None:
    for name in ("a.jpg", ".b.jpg", ".git/c.jpg", ".git/.d.jpg", "e/.f/g.jpg"):
        put(outside / name)
    put(originals_dir / ".h.jpg")
    done = run_command("import_images", outside, originals_dir)
    assert (done.returncode, done.stdout) == (
        0,
        "1 added, 0 updated, 0 known, 0 refused, 4 hidden passed over.\n",
    )
    assert json.loads(run_command("import_images", outside, "--json").stdout)["hidden"] == 3
    assert {Path(name).name for name in names()} == {"a.jpg"}
    everything = json.loads(run_command("import_images", outside, "--hidden", "--json").stdout)
    assert (everything["added"], everything["known"], everything["hidden"]) == (4, 1, 0)


def test_walk__takes_what_is_hidden_where_it_is_asked_for(outside: Path) -> None:
    put(outside / ".git" / "a.jpg")
    assert results(outside / ".git") == {"a.jpg": ADDED}
    assert results(put(outside / ".b.jpg")) == {".b.jpg": ADDED}


def test_walk__of_links_in_circles_refuses_each(outside: Path) -> None:
    """Also where following them would be deeper than Python's stack."""
    links = [outside / f"{number}.jpg" for number in range(2_000)]
    for link, target in itertools.pairwise([*links, links[0]]):
        link.symlink_to(target)
    assert {(one.outcome, one.reason) for one in imported(outside)} == {
        (REFUSED, Reason.STORAGE_ERROR)
    }


def test_walk__goes_deeper_than_python_s_stack(outside: Path) -> None:
    put(outside / "a.jpg")
    here = os.open(outside, os.O_RDONLY)
    for _ in range(3_000):  # and than a path can name
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        assert [one.outcome for one in imported(outside)] == [ADDED, REFUSED]
    finally:
        subprocess.run(["/bin/rm", "-r", outside / "d"], check=True)  # pytest cannot


def test_walk__passes_over_the_cache(tmp_path: Path, make_asset: MakeAsset) -> None:
    """Also where originals and cache lie below the same folder."""
    asset = make_asset(name="a.jpg")
    serving.serve(asset)
    assert results(tmp_path) == {"a.jpg": KNOWN}
    assert names() == {"a.jpg"}


def test_walk__passes_over_the_cache_that_is_asked_for(
    thumbnail_dir: Path, make_asset: MakeAsset
) -> None:
    asset = make_asset(name="a.jpg")
    serving.serve(asset)
    shard = (thumbnail_dir / asset.thumbnail_name).parent
    assert results(thumbnail_dir) == {}
    assert results(shard) == {}
    assert names() == {"a.jpg"}


def test_walk__of_an_empty_folder_finds_nothing(outside: Path) -> None:
    assert imported(outside) == []


def test_walk__knows_the_originals_behind_a_link(
    originals_dir: Path, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "link").symlink_to(originals_dir)
    storage = {**settings.STORAGES["originals"], "OPTIONS": {"location": tmp_path / "link"}}
    settings.STORAGES = {**settings.STORAGES, "originals": storage}
    put(originals_dir / "a.jpg")
    assert results(originals_dir) == {"a.jpg": ADDED}
    assert results(tmp_path / "link") == {"a.jpg": KNOWN}
    assert names() == {"a.jpg"}


@pytest.mark.parametrize("case", ["missing", "dangling", "loop", "too-long", "below-a-file"])
def test_walk__of_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path, case: str) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    put(tmp_path / "file")
    path = tmp_path / {"too-long": "n" * 300, "below-a-file": "file/a.jpg"}.get(case, case)
    with pytest.raises(UsageError) as caught:
        imported(path)
    assert str(path) in str(caught.value)


def test_walk__of_originals_in_no_folder_is_wrong_usage(outside: Path, settings: Settings) -> None:
    in_memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "originals": in_memory}
    with pytest.raises(UsageError, match="kept in a folder"):
        imported(outside)


# --- Sessions -------------------------------------------------------------------------------------


def test_session__takes_the_new_ones(originals_dir: Path) -> None:
    put(originals_dir / "a.jpg")
    imported(originals_dir)
    put(originals_dir / "b.jpg")
    put(originals_dir / "c.jpg")
    imported(originals_dir, session="November")
    imported(originals_dir, session="November")
    session = TrainingSession.objects.get()
    assert session.name == "November"
    assert {str(asset) for asset in session.assets.all()} == {"b.jpg", "c.jpg"}


def test_session__is_the_first_of_its_name(originals_dir: Path) -> None:
    first, _ = (TrainingSession.objects.create(name="November") for _ in range(2))
    put(originals_dir / "a.jpg")
    imported(originals_dir, session="November")
    asset = ImageAsset.objects.get()
    assert list(asset.memberships.values_list("session", "created_at")) == [
        (first.pk, asset.created_at)
    ]


def test_session__is_none_without_a_name(originals_dir: Path) -> None:
    put(originals_dir / "a.jpg")
    imported(originals_dir)
    assert not ImageAsset.objects.get().sessions.exists()
    assert not TrainingSession.objects.exists()


@pytest.mark.parametrize("name", ["x" * 201, os.fsdecode(b"K\xf6ln")], ids=["long", "no-text"])
def test_session__of_an_impossible_name_is_wrong_usage(originals_dir: Path, name: str) -> None:
    put(originals_dir / "a.jpg")
    with pytest.raises(UsageError, match="session"):
        imported(originals_dir, session=name)
    assert not ImageAsset.objects.exists()


# --- One file -------------------------------------------------------------------------------------


def test_import_file__gives_the_asset(outside: Path) -> None:
    path = put(outside / "a.jpg")
    asset = importing.import_file(path, session="November")
    assert asset.width == 64
    assert str(asset.sessions.get()) == "November"
    assert importing.import_file(path) == asset


def test_import_file__raises_where_it_is_refused(outside: Path) -> None:
    with pytest.raises(Unsupported, match="a text file"):
        importing.import_file(put(outside / "a.jpg", pictures.TEXT))


# --- The command ----------------------------------------------------------------------------------


def test_command__tells_what_became_of_each(
    run_command: RunCommand, originals_dir: Path, outside: Path
) -> None:
    put(originals_dir / "a.jpg")
    put(outside / "b.jpg")
    done = run_command("import_images", originals_dir, outside, "--session", "November")
    assert (done.returncode, done.stdout) == (0, "2 added, 0 updated, 0 known, 0 refused.\n")
    assert TrainingSession.objects.get().assets.count() == 2
    change(originals_dir / "a.jpg", pictures.jpeg(pictures.scene(9, 9)))
    again = run_command("import_images", originals_dir, outside)
    # The copy of b.jpg lies among the originals, and so is met twice.
    assert (again.returncode, again.stdout) == (0, "0 added, 1 updated, 2 known, 0 refused.\n")


def test_command__names_the_refused_with_their_reasons(
    run_command: RunCommand, outside: Path
) -> None:
    for name, (data, _, _) in BAD.items():
        put(outside / name, data)
    put(outside / "good.jpg")
    done = run_command("import_images", outside)
    assert done.returncode == 1
    *refusals, summary = done.stdout.splitlines()
    assert summary == "1 added, 0 updated, 0 known, 6 refused."
    assert len(refusals) == len(BAD)
    for line, name in zip(refusals, sorted(BAD), strict=True):
        assert line.startswith(f"refused {outside / name} ({BAD[name][1]}): ")
    counted = Counter(reason.label for _, reason, _ in BAD.values()).most_common()
    kinds = ", ".join(f"{number} {label}" for label, number in counted)
    assert len(counted) < len(BAD)
    assert done.stderr.strip() == f"CommandError: 6 refused: {kinds}."


def test_command__reports_as_json(run_command: RunCommand, originals_dir: Path) -> None:
    put(originals_dir / "good.jpg")
    bad = put(originals_dir / "text.jpg", pictures.TEXT)
    done = run_command("import_images", originals_dir, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    (refusal,) = report.pop("refusals")
    assert report == {"added": 1, "updated": 0, "known": 0, "refused": 1, "hidden": 0}
    assert (refusal["path"], refusal["reason"]) == (str(bad), "unsupported")
    assert refusal["detail"].startswith("This is a text file")


@pytest.mark.parametrize("arguments", [["--json"], []], ids=["json", "plain"])
def test_command__can_name_a_file_whose_name_is_no_text(
    manage: Manage, outside: Path, arguments: list[str]
) -> None:
    put(outside / name_of_latin_1())
    put(outside / "good.jpg")
    # As in most people's terminals; in the C locale Python writes what it cannot encode as it is.
    done = manage("import_images", outside, *arguments, PYTHONIOENCODING="utf-8")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ln.jpg" in done.stdout
    assert ImageAsset.objects.count() == 1


def test_command__tells_of_each_name_in_one_line(run_command: RunCommand, outside: Path) -> None:
    for name in ("-rf", "a\nb", "\x1b[2J", "\u202egpj.exe"):
        put(outside / name, pictures.TEXT)
    (outside / "c\nd").symlink_to("nowhere")
    done = run_command("import_images", outside)
    *refusals, summary = done.stdout.splitlines()
    assert summary == "0 added, 0 updated, 0 known, 5 refused."
    assert [line.split(" (")[0] for line in refusals] == [
        f"refused {outside}/{name}"
        for name in (r"\x1b[2J", "-rf", r"a\nb", r"c\nd", r"\u202egpj.exe")
    ]
    assert all(character.isprintable() for line in refusals for character in line)


def test_command__takes_names_that_look_like_options(
    outside: Path, process_environment: dict[str, str]
) -> None:
    put(outside / "-rf")
    put(outside / "--json" / "a.jpg")
    done = subprocess.run(
        [sys.executable, ROOT / "manage.py", "import_images", "--", "-rf", "--json"],
        cwd=outside,
        env=process_environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "2 added, 0 updated, 0 known, 0 refused.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nowhere/at/all"], "There is no file or folder /nowhere/at/all."),
        (["/nowhere/\x1b[2J"], r"There is no file or folder /nowhere/\x1b[2J."),
        ([], "Say which files or folders"),
        ([".", "--frobnicate"], "unrecognized arguments"),
    ],
)
def test_command__tells_wrong_usage(
    run_command: RunCommand, arguments: list[str], sentence: str
) -> None:
    done = run_command("import_images", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_command__imports_nothing_where_one_path_is_not_there(
    run_command: RunCommand, originals_dir: Path
) -> None:
    put(originals_dir / "a.jpg")
    done = run_command("import_images", originals_dir, originals_dir / "missing")
    assert done.returncode == 2
    assert not ImageAsset.objects.exists()


def test_command__may_run_several_times_at_once(
    outside: Path, originals_dir: Path, process_environment: dict[str, str]
) -> None:
    content = pictures.jpeg() + bytes(5_000_000)  # so that copying takes a moment
    for number in range(30):
        put(outside / f"{number}.jpg", content)
    command = [sys.executable, "manage.py", "import_images", str(outside)]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, env=process_environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=COMMAND_SECONDS)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert names() == set(files_below(originals_dir))
    assert len(names()) == 30
    assert all((originals_dir / name).read_bytes() == content for name in names())

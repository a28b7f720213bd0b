"""Originals in several folders and storages: found by name, never written to, each for itself."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile, File
from django.core.files.storage import InMemoryStorage, Storage, storages
from django.utils import timezone
from pytest_django import Settings

from tests import permissions, pictures
from tests.conftest import Manage, RunCommand
from tests.objects import BUCKET, ObjectServer
from tests.runs import start_here, work
from tests.servers import QueueServer
from thumbnails import jobs
from thumbnails.exceptions import Reason, SourceMissing, StorageFailure, Unsupported, UsageError
from thumbnails.models import Chunk, ImageAsset, Run, RunEvent, RunRoot, State
from thumbnails.storage import deadlines, originals
from thumbnails.storage.roots import OriginalsStorage
from thumbnails.upkeep.images import importing, rescan, serving
from thumbnails.upkeep.images.importing import ImportOutcome, ImportResult
from thumbnails.upkeep.reports import health
from thumbnails.upkeep.reports.audit import Finding, audit
from thumbnails.upkeep.runs import control, execute, recovery
from thumbsite import environment

MEMORY = {"BACKEND": "django.core.files.storage.InMemoryStorage"}


class AddRoots(Protocol):
    def __call__(self, **roots: Path | dict[str, Any]) -> None: ...


@pytest.fixture
def add_roots(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AddRoots:
    """Give the originals these roots beside `originals_dir`."""

    def add(**roots: Path | dict[str, Any]) -> None:
        config = settings.STORAGES["originals"]
        options = {**config["OPTIONS"], "roots": roots}
        settings.STORAGES = {**settings.STORAGES, "originals": {**config, "OPTIONS": options}}
        # The field asked for its storage when the model was made.
        field = ImageAsset._meta.get_field("original")
        monkeypatch.setattr(field, "storage", storages["originals"])

    return add


@pytest.fixture
def nas(tmp_path: Path, add_roots: AddRoots) -> Path:
    """The folder of a root of that name."""
    folder = tmp_path / "mnt" / "nas"
    folder.mkdir(parents=True)
    add_roots(nas=folder)
    return folder


def put(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pictures.jpeg() if data is None else data)
    return path


def read(name: str) -> bytes:
    with originals.read(name) as original:
        assert original.version == originals.source_version(name)
        return os.pread(original.spool.fileno(), original.spool.size_bytes, 0)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def storage() -> Storage:
    return storages["originals"]


# --- Names ----------------------------------------------------------------------------------------


def test_name__whose_first_part_is_a_root_is_of_a_file_there(
    originals_dir: Path, nas: Path
) -> None:
    put(nas / "2019/a.jpg", b"in the root")
    put(originals_dir / "2019/a.jpg", b"in the main folder")
    assert read("nas/2019/a.jpg") == b"in the root"
    assert read("2019/a.jpg") == b"in the main folder"
    assert originals.name_of(nas / "2019/a.jpg") == "nas/2019/a.jpg"
    assert originals.name_of(originals_dir / "2019/a.jpg") == "2019/a.jpg"
    assert originals.name_of(nas.parent / "a.jpg") is None
    assert originals.root_of("nas/2019/a.jpg") == "nas"
    assert originals.root_of("2019/a.jpg") == ""


@pytest.mark.parametrize("kind", ["folder", "storage"])
def test_storage__answers_for_all_its_roots(tmp_path: Path, kind: str) -> None:
    store = OriginalsStorage(
        tmp_path / "main", {"nas": MEMORY if kind == "storage" else tmp_path / "nas"}
    )
    store.save("a.jpg", ContentFile(b"main"))
    store.roots["nas"].save("2019/a.jpg", ContentFile(b"a root"))
    assert store.exists("nas/2019/a.jpg")
    assert not store.exists("nas/a.jpg")
    assert (store.size("nas/2019/a.jpg"), store.size("a.jpg")) == (6, 4)
    assert store.listdir("nas") == (["2019"], [])
    assert store.listdir("nas/2019") == ([], ["a.jpg"])
    with store.open("nas/2019/a.jpg") as file:
        assert file.read() == b"a root"
    assert store.get_modified_time("nas/2019/a.jpg") >= store.get_modified_time("a.jpg")
    assert store.path("a.jpg") == str(tmp_path / "main/a.jpg")


@pytest.mark.parametrize("kind", ["folder", "storage"])
@pytest.mark.parametrize(
    "name",
    ["nas/../../etc", "nas/../other/a.jpg", "nas//etc/passwd", "nas/./a.jpg", "nas/nul\0.jpg"],
)
def test_name__that_leads_out_of_its_root_is_of_nothing(
    nas: Path, add_roots: AddRoots, kind: str, name: str
) -> None:
    put(nas / "a.jpg")
    put(nas.parent / "other/a.jpg")
    if kind == "storage":
        add_roots(nas=MEMORY)
    with pytest.raises(SourceMissing):
        originals.source_version(name)
    with pytest.raises(SourceMissing), originals.read(name):
        pass


def test_link__out_of_a_root_is_not_read(nas: Path, originals_dir: Path) -> None:
    """Others than the site may write to it, and make a thumbnail of what is not theirs."""
    put(originals_dir / "private.jpg")
    put(nas / "2019/a.jpg")
    (nas / "b.jpg").symlink_to(nas / "2019/a.jpg")
    (nas / "c.jpg").symlink_to(originals_dir / "private.jpg")
    (nas / "2020").symlink_to(originals_dir)
    assert read("nas/b.jpg") == pictures.jpeg()
    for name in ("nas/c.jpg", "nas/2020/private.jpg"):
        with pytest.raises(Unsupported, match="link leads out"):
            read(name)


# --- Never written to -----------------------------------------------------------------------------


def test_root__is_never_written_to(nas: Path, originals_dir: Path) -> None:
    put(nas / "a.jpg", b"a")
    store = storage()
    for act in (
        lambda: store.save("nas/b.jpg", ContentFile(b"b")),
        lambda: store.delete("nas/a.jpg"),
        lambda: store.open("nas/a.jpg", "wb"),
    ):
        with pytest.raises(OSError, match="Read-only") as refused:
            act()
        assert refused.value.errno == errno.EROFS
    assert files_below(nas) == ["a.jpg"]
    assert store.save("b.jpg", ContentFile(b"b")) == "b.jpg"
    store.delete("b.jpg")
    assert files_below(originals_dir) == []


@pytest.mark.django_db
def test_root__keeps_an_original_that_is_replaced_or_whose_asset_is_deleted(
    nas: Path, originals_dir: Path
) -> None:
    asset = importing.import_file(put(nas / "a.jpg"))
    new = pictures.png(pictures.scene(30, 90))
    facts = serving.inspect_upload(BytesIO(new))
    importing.replace_original(asset, BytesIO(new), facts, name="new.png")
    asset.refresh_from_db()
    assert str(asset.original.name).startswith("uploads/")
    assert len(files_below(originals_dir)) == 1
    importing.import_file(nas / "a.jpg").delete()
    assert files_below(nas) == ["a.jpg"]


# --- Away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "empty", "a file"])
def test_root__that_is_away_has_not_lost_its_originals(nas: Path, how: str) -> None:
    put(nas / "a.jpg")
    with pytest.raises(SourceMissing):
        originals.source_version("nas/b.jpg")
    nas.rename(nas.with_name("elsewhere"))
    if how == "empty":
        nas.mkdir()
    elif how == "a file":
        nas.touch()
    with pytest.raises(StorageFailure, match="root nas is away"):
        originals.source_version("nas/a.jpg")
    with pytest.raises(StorageFailure, match="root nas is away"):
        read("nas/a.jpg")


class HangingStorage(InMemoryStorage):
    """Answers when it is told to."""

    may_answer = threading.Event()

    def size(self, name: str) -> int:
        self.may_answer.wait()
        return super().size(name)

    get_modified_time: Callable[..., Any] = size


@pytest.fixture
def hanging() -> Iterator[dict[str, Any]]:
    HangingStorage.may_answer.clear()
    yield {"BACKEND": f"{__name__}.HangingStorage"}
    HangingStorage.may_answer.set()


def test_root__that_hangs_does_not_use_up_the_timeouts_of_others(
    tmp_path: Path, originals_dir: Path, add_roots: AddRoots, hanging: dict[str, Any]
) -> None:
    add_roots(slow=hanging, nas=tmp_path / "nas")
    put(tmp_path / "nas/a.jpg")
    put(originals_dir / "a.jpg")
    for _ in range(deadlines.HANGING_AT_MOST):
        with pytest.raises(StorageFailure, match="does not answer"):
            originals.source_version("slow/a.jpg", patience_seconds=0.001)
    with pytest.raises(StorageFailure, match="does not answer"):
        originals.source_version("slow/a.jpg")  # refused at once
    assert originals.source_version("nas/a.jpg")
    assert originals.source_version("a.jpg")


# --- Refused at the start -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roots", "fault"),
    [
        ({"NAS": "/mnt/nas"}, "cannot be named 'NAS'"),
        ({"a/b": "/mnt/nas"}, "cannot be named 'a/b'"),
        ({"-a": "/mnt/nas"}, "cannot be named '-a'"),
        ({"a" * 51: "/mnt/nas"}, "cannot be named"),
        ({"uploads": "/mnt/nas"}, "new files are stored below that name"),
        ({"nas": "mnt/nas"}, "must be an absolute path, not 'mnt/nas'"),
    ],
)
def test_root__that_cannot_be_is_refused(tmp_path: Path, roots: dict[str, str], fault: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=fault):
        OriginalsStorage(tmp_path, roots)


@pytest.mark.parametrize(
    ("roots", "fault"),
    [
        ({"nas": "nas", "photos": "nas"}, "of the root photos (*/nas) and of the root nas"),
        ({"nas": "nas", "photos": "nas/photos"}, "of the root photos (*/nas/photos) and of"),
        ({"nas": "link", "photos": "nas"}, "of the root photos (*/nas) and of the root nas"),
        ({"nas": "main"}, "of the root nas (*/main) and of the main folder"),
        ({"nas": "main/nas"}, "of the root nas (*/main/nas) and of the main folder"),
        ({"nas": "."}, "of the root nas (*) and of the main folder"),
        ({"nas": "cache/82"}, "of the root nas (*/cache/82) and of the cache"),
        ({"nas": "nas", "old": "old"}, "*/main/old is hidden by the root old"),
    ],
)
def test_roots__that_are_not_apart_are_refused(
    tmp_path: Path, roots: dict[str, str], fault: str
) -> None:
    (tmp_path / "nas").mkdir()
    (tmp_path / "main/old").mkdir(parents=True)
    (tmp_path / "link").symlink_to("nas")
    store = OriginalsStorage(
        tmp_path / "main", {root: tmp_path / folder for root, folder in roots.items()}
    )
    with pytest.raises(ImproperlyConfigured) as refused:
        store.check(cache=(tmp_path / "cache").resolve())
    assert fault.replace("*", str(tmp_path.resolve())) in str(refused.value)


def test_roots__may_be_away_at_the_start(tmp_path: Path) -> None:
    store = OriginalsStorage(tmp_path / "main", {"nas": tmp_path / "nas", "bucket": MEMORY})
    store.check(cache=tmp_path / "cache")


def test_variable__names_the_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIGINALS_DIRS", "photos=/export/photos, nas=/mnt/nas")
    assert environment.folders("ORIGINALS_DIRS") == {
        "photos": Path("/export/photos"),
        "nas": Path("/mnt/nas"),
    }


@pytest.mark.parametrize(
    ("value", "fault"),
    [("nas=/mnt/nas,nas=/export", "names nas twice"), ("/mnt/nas", "has '/mnt/nas'")],
)
def test_variable__that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, fault: str
) -> None:
    monkeypatch.setenv("ORIGINALS_DIRS", value)
    with pytest.raises(ImproperlyConfigured, match=rf"^ORIGINALS_DIRS must be .*{fault}"):
        environment.folders("ORIGINALS_DIRS")


@pytest.mark.django_db(transaction=True)
def test_start__is_refused_with_roots_that_are_not_apart(
    manage: Manage, originals_dir: Path
) -> None:
    refused = manage("check", ORIGINALS_DIRS=f"nas={originals_dir}/nas")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"The folders of the root nas ({originals_dir}/nas) and of")


# --- Importing ------------------------------------------------------------------------------------


def imported(*paths: Path, with_hidden: bool = False) -> list[ImportResult]:
    return list(importing.import_files(importing.find_files(paths, with_hidden=with_hidden)))


def outcomes(*paths: Path, with_hidden: bool = False) -> dict[str, ImportOutcome]:
    return {str(one.path): one.outcome for one in imported(*paths, with_hidden=with_hidden)}


def names() -> set[str]:
    return set(ImageAsset.objects.values_list("original", flat=True))


@pytest.mark.django_db
def test_import__takes_a_read_only_root_as_it_is(nas: Path, originals_dir: Path) -> None:
    put(nas / "2019/a.jpg", pictures.jpeg(pictures.scene(80, 60)))
    put(nas / "b.jpg")
    for path in [*nas.rglob("*"), nas]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with permissions.binding():
        assert set(outcomes(nas).values()) == {ImportOutcome.ADDED}
        assert set(outcomes(nas / "2019", nas).values()) == {ImportOutcome.KNOWN}
        asset = ImageAsset.objects.get(original="nas/2019/a.jpg")
        assert serving.serve(asset).content
    assert names() == {"nas/2019/a.jpg", "nas/b.jpg"}
    assert (asset.width, asset.source_version) == (80, originals.source_version("nas/2019/a.jpg"))
    assert files_below(originals_dir) == []


@pytest.mark.django_db
def test_import__follows_no_link_of_a_recorded_original_out_of_its_root(
    nas: Path, originals_dir: Path
) -> None:
    put(originals_dir / "private.jpg", pictures.jpeg(pictures.scene(80, 60)))
    path = put(nas / "2019/a.jpg")
    assert outcomes(path) == {str(path): ImportOutcome.ADDED}
    path.rename(nas / "b.jpg")
    path.symlink_to(nas / "b.jpg")
    assert outcomes(nas / "2019") == {str(path): ImportOutcome.KNOWN}
    path.unlink()
    path.symlink_to(originals_dir / "private.jpg")
    (refused,) = imported(nas / "2019")
    assert (refused.outcome, refused.reason) == (ImportOutcome.REFUSED, Reason.UNSUPPORTED)


@pytest.mark.django_db
def test_import__takes_a_root_by_its_name(nas: Path) -> None:
    put(nas / "2019/a.jpg")
    put(nas / "2020/a.jpg")
    imported(Path("nas/2019"))
    assert names() == {"nas/2019/a.jpg"}
    imported(Path("nas"))
    assert names() == {"nas/2019/a.jpg", "nas/2020/a.jpg"}
    for path in ("nas/2021", "nas/../other"):
        with pytest.raises(UsageError, match="There is no file or folder nas/"):
            imported(Path(path))


@pytest.fixture
def store() -> Iterator[ObjectServer]:
    with ObjectServer() as server:
        yield server


@pytest.fixture
def bucket(store: ObjectServer, tmp_path: Path, add_roots: AddRoots) -> ObjectServer:
    """A root in an object storage, with pictures and what is none."""
    folder = tmp_path / "to be uploaded"
    put(folder / "2019/a.jpg", pictures.jpeg(pictures.scene(80, 60)))
    put(folder / "2019/05/b.png", pictures.png(pictures.scene(30, 90)))
    put(folder / "2019/notes.txt", b"no picture")
    put(folder / "2019/.hidden.jpg")
    put(folder / "2019/.trash/c.jpg")
    put(folder / "2020/large.jpg", pictures.jpeg() + bytes(2**20))
    store.put(folder)
    add_roots(bucket=store.storage)
    return store


@pytest.mark.django_db
def test_import__lists_an_object_storage_and_refuses_as_on_disk(
    bucket: ObjectServer, originals_dir: Path, settings: Settings
) -> None:
    settings.THUMBNAIL_MAX_BYTES = 2**20
    assert outcomes(Path("bucket/2019")) == {
        "bucket/2019/.hidden.jpg": ImportOutcome.HIDDEN,
        "bucket/2019/.trash": ImportOutcome.HIDDEN,
        "bucket/2019/05/b.png": ImportOutcome.ADDED,
        "bucket/2019/a.jpg": ImportOutcome.ADDED,
        "bucket/2019/notes.txt": ImportOutcome.REFUSED,
    }
    asset = ImageAsset.objects.get(original="bucket/2019/a.jpg")
    assert (asset.width, asset.height, asset.format) == (80, 60, "JPEG")
    assert serving.serve(asset).content
    again = {str(one.path): one for one in imported(Path("bucket"))}
    assert again["bucket/2019/a.jpg"].outcome == ImportOutcome.KNOWN
    assert again["bucket/2020/large.jpg"].reason == Reason.TOO_LARGE
    hidden = outcomes(Path("bucket/2019"), with_hidden=True)
    assert hidden["bucket/2019/.trash/c.jpg"] == ImportOutcome.ADDED
    bucket.client.put_object(Bucket=BUCKET, Key="2019/a.jpg", Body=pictures.jpeg())
    assert outcomes(Path("bucket/2019/a.jpg")) == {"bucket/2019/a.jpg": ImportOutcome.UPDATED}
    with pytest.raises(UsageError, match="There is no file or folder bucket/2021"):
        imported(Path("bucket/2021"))
    assert files_below(originals_dir) == []
    bucket.kill()
    (refused,) = imported(Path("bucket/2019"))
    assert (refused.outcome, refused.reason) == (ImportOutcome.REFUSED, Reason.STORAGE_ERROR)
    assert "bucket/2019 cannot be listed" in refused.detail


class CountingStorage(InMemoryStorage):
    """Notes what is listed, and has a folder whose name leads back to itself, as S3 may."""

    listed: list[str] = []  # noqa: RUF012  of all instances

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        self.listed.append(path)
        folders, files = super().listdir(path)
        return [*folders, "."], files

    def size(self, name: str) -> int:
        return len(pictures.jpeg())

    def open(self, name: str, mode: str = "rb") -> File[Any]:
        return ContentFile(pictures.jpeg(), name)


@pytest.mark.django_db
def test_import__lists_a_folder_at_a_time(
    add_roots: AddRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingStorage, "listed", [])
    add_roots(bucket={"BACKEND": f"{__name__}.CountingStorage"})
    root = originals.locate("bucket").storage
    for name in ("1/a.jpg", "2/a.jpg", "3/forged\nline.jpg"):
        root.save(name, ContentFile(b""))
    found = importing.find_files([Path("bucket")])
    next(found)
    assert CountingStorage.listed == [""]
    refused = [one for one in importing.import_files(found) if one.reason is not None]
    assert CountingStorage.listed == ["", "1", "2", "3"]
    assert names() == {"bucket/1/a.jpg", "bucket/2/a.jpg"}
    details = {str(one.path): one.detail for one in refused}
    assert details.pop("bucket/3/forged\nline.jpg") == "The file's name has control characters."
    assert len(details) == 3  # what leads back to itself
    assert all("empty part" in detail for detail in details.values())


# --- Runs -----------------------------------------------------------------------------------------

PER_ROOT = 30


class TwoRoots:
    """Images in the roots `nas` and `photos`, of which `nas` can be away."""

    def __init__(self, folder: Path) -> None:
        self.nas, self.photos = folder / "nas", folder / "photos"
        self._elsewhere = folder / "elsewhere"

    def fill(self, number: int) -> None:
        for n, root in itertools.product(range(number), (self.nas, self.photos)):
            put(root / f"{n:02}.jpg", pictures.jpeg(pictures.scene(32, 24)))
        # As they come in from both at the same time.
        found = [importing.find_files([root]) for root in (self.nas, self.photos)]
        files = itertools.chain.from_iterable(zip(*found, strict=True))
        list(importing.import_files(files))

    def take_away(self, *, leaving: str = "nothing") -> None:
        self.nas.rename(self._elsewhere)
        if leaving == "a file":
            put(self.nas / ".keep", b"")

    def bring_back(self) -> None:
        if self.nas.exists():
            (self.nas / ".keep").unlink()
            self.nas.rmdir()
        self._elsewhere.rename(self.nas)


@pytest.fixture
def two(tmp_path: Path, add_roots: AddRoots, db: None) -> TwoRoots:
    two = TwoRoots(tmp_path / "mnt")
    add_roots(nas=two.nas, photos=two.photos)
    return two


def of_root(root: str) -> list[ImageAsset]:
    return list(ImageAsset.objects.filter(original__startswith=f"{root}/").order_by("original"))


def states(root: str) -> set[State]:
    return {asset.state for asset in of_root(root)}


def test_run__has_chunks_of_one_root_each(two: TwoRoots, originals_dir: Path) -> None:
    two.fill(20)
    importing.import_file(put(originals_dir / "a.jpg"))
    roots = {asset.pk: originals.root_of(str(asset)) for asset in ImageAsset.objects.all()}
    run = start_here()
    chunks = list(run.chunks.order_by("number"))
    assert run.total == sum(len(chunk.asset_ids) for chunk in chunks) == 41
    assert {chunk.root for chunk in chunks} == {"", "nas", "photos"}
    for chunk in chunks:
        assert {roots[asset_id] for asset_id in chunk.asset_ids} == {chunk.root}
        assert chunk.asset_ids == sorted(chunk.asset_ids)
    purge = start_here(Run.Kind.PURGE)
    assert {chunk.root for chunk in purge.chunks.all()} == {""}


@pytest.mark.parametrize("leaving", ["nothing", "a file"])
def test_root__that_goes_away_pauses_its_own_images_only(
    two: TwoRoots, small_chunks: None, queue_server: QueueServer, leaving: str
) -> None:
    two.fill(PER_ROOT)
    run = start_here()
    chunks = list(run.chunks.order_by("number"))
    for chunk in chunks[: PER_ROOT // 2]:
        jobs.work_chunk(chunk.pk)
    two.take_away(leaving=leaving)
    work(run)
    assert run.state == Run.State.PAUSED
    assert run.pause_reason.startswith("Root nas: ")
    assert run.resume_at is not None
    assert states("photos") == {State.FRESH}
    assert run.progress().failed == 0
    done = run.progress().done
    assert PER_ROOT <= done < 2 * PER_ROOT
    rendered = next(asset for asset in of_root("nas") if asset.state == State.FRESH)
    assert serving.serve(rendered).content
    logged = list(run.events.values_list("kind", flat=True))
    assert logged == [RunEvent.Kind.STARTED, RunEvent.Kind.ROOT_AWAY, RunEvent.Kind.PAUSED]

    def try_again() -> None:
        Run.objects.update(resume_at=timezone.now())
        queue_server.flush()
        recovery.recover_runs()
        work(run)

    try_again()
    assert (run.state, run.progress().done) == (Run.State.PAUSED, done)
    two.bring_back()
    try_again()
    assert run.state == Run.State.DONE
    assert run.progress().rendered == 2 * PER_ROOT
    assert ImageAsset.objects.fresh().count() == 2 * PER_ROOT


def test_failures_in_a_row__are_counted_by_root(two: TwoRoots, small_chunks: None) -> None:
    """What goes well in another root between them ends no row."""
    two.fill(PER_ROOT)
    run = start_here()
    two.take_away()
    nas, photos = (list(run.chunks.filter(root=root)) for root in ("nas", "photos"))
    for number in range(execute.STORAGE_ERRORS_AT_MOST):
        assert not run.roots.away().exists()
        jobs.work_chunk(photos[number].pk)
        jobs.work_chunk(nas[number].pk)
    assert [root.root for root in run.roots.away()] == ["nas"]
    assert run.chunks.open().filter(root="nas").count() == 0
    assert run.progress().failed == 0
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


def test_worker__leaves_a_root_that_another_found_away(
    two: TwoRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "LOOK_SECONDS", 0)
    two.fill(3)
    run = start_here()
    chunk = run.chunks.get(root="nas")

    def read_while_another_fails(name: str) -> Any:
        RunRoot.objects.save_one(run.pk, "nas", away="Root nas: it is away.")
        raise StorageFailure("It is away.")

    monkeypatch.setattr(originals, "read", read_while_another_fails)
    jobs.work_chunk(chunk.pk)
    chunk.refresh_from_db()
    assert (chunk.finished_at, chunk.lease_until, chunk.claims) == (None, None, 1)
    assert run.progress().failed == 0
    jobs.work_chunk(chunk.pk)
    assert Chunk.objects.get(pk=chunk.pk).claims == 1


def test_resume__of_a_run_that_goes_on_tries_the_root_again(
    two: TwoRoots, small_chunks: None, queue_server: QueueServer
) -> None:
    two.fill(PER_ROOT)
    run = start_here()
    Run.objects.update(lease_until=None)
    two.take_away(leaving="a file")
    for chunk in run.chunks.filter(root="nas"):
        jobs.work_chunk(chunk.pk)
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    warning = health.why_it_stands_still(run, health.queue_use(run))
    assert warning.startswith("Root nas: 20 originals in a row are missing")
    control.resume(run)
    assert not run.roots.away().exists()
    # They are gone for good, and a person has seen it.
    work(run)
    assert run.state == Run.State.DONE
    assert run.progress().failures == {Reason.SOURCE_MISSING: [a.pk for a in of_root("nas")]}


# --- Rescans --------------------------------------------------------------------------------------


def test_rescan__of_a_root_that_is_away_records_what_it_finds_in_others(
    two: TwoRoots, run_command: RunCommand
) -> None:
    two.fill(rescan.FEW)
    work(start_here())
    two.take_away(leaving="a file")
    (two.photos / "03.jpg").unlink()
    put(two.photos / "04.jpg", pictures.png(pictures.scene(30, 90)))
    done = run_command("regenerate_thumbnails", "--rescan")
    assert done.returncode == 1
    assert "40 originals: 1 changed, 1 gone. 20 of 20 originals of the root nas" in done.stderr
    assert states("nas") == {State.FRESH}
    photos = {str(asset): asset for asset in of_root("photos")}
    assert photos["photos/03.jpg"].thumbnail_error == Reason.SOURCE_MISSING
    assert photos["photos/04.jpg"].thumbnail_width == 30
    assert rescan.rescan(ImageAsset.objects.all(), save=False).gone


@pytest.mark.parametrize(
    ("leaving", "fault"),
    [("a file", "20 of 20 originals of the root nas are gone"), ("nothing", "root nas is away")],
)
def test_audit__of_a_root_that_is_away_fixes_the_rest(
    two: TwoRoots, thumbnail_dir: Path, leaving: str, fault: str
) -> None:
    two.fill(rescan.FEW)
    work(start_here())
    two.take_away(leaving=leaving)
    (two.photos / "03.jpg").unlink()
    orphan, *_ = of_root("photos")
    ImageAsset.objects.filter(pk=orphan.pk).delete()
    report = audit(fix=True, with_originals=True)
    assert fault in report.refusal
    assert not report.is_clean
    assert report.found[Finding.ORPHAN] == 1
    assert not (thumbnail_dir / orphan.thumbnail_name).exists()
    assert states("nas") == {State.FRESH}
    assert states("photos") == {State.FRESH, State.FAILED}

"""Importing originals: recording what their headers say, without decoding them."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from django.core.files import File
from django.db import transaction
from django.db.models import F

from thumbnails import conf
from thumbnails.batching import batched
from thumbnails.exceptions import (
    Reason,
    SourceMissing,
    StorageFailure,
    ThumbnailError,
    Unsupported,
    UsageError,
)
from thumbnails.models import ImageAsset, SessionImage, TrainingSession
from thumbnails.models.assets import NAME_LENGTH
from thumbnails.models.changes import Changed, tell_on_commit
from thumbnails.models.results import NO_FAILURE, NO_THUMBNAIL
from thumbnails.rendering import Facts
from thumbnails.signals import Change
from thumbnails.storage import listing, originals, sources
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.errors import translated_writing
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.images.arrival import render_soon
from thumbnails.upkeep.images.freshness import delete_unrecorded, variants_of

FACT_COLUMNS = (*Facts.__slots__, "source_version")
BATCH = 500
"""Files that share one query and one transaction."""


class ImportOutcome(StrEnum):
    """Result for one file."""

    ADDED = "added"
    UPDATED = "updated"
    KNOWN = "known"
    REFUSED = "refused"
    HIDDEN = "hidden"
    """Skipped; a hidden folder with everything in it counts once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """The result for one file of an import."""

    path: Path
    outcome: ImportOutcome
    original: str
    """Its name."""
    reason: Reason | None = None
    """Why it was refused, and `detail` in words; None if it was not."""
    detail: str = ""

    @property
    def is_new(self) -> bool:
        return self.outcome == ImportOutcome.ADDED

    @property
    def has_changed(self) -> bool:
        return self.is_new or self.outcome == ImportOutcome.UPDATED


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be imported."""

    path: Path
    name: str
    """Its name in the originals' storage."""
    target: Path | None
    """The path of the original; None if it is not on disk."""
    named: Path | None
    """The path given by the caller, resolved: no link may lead out of it; None follows all."""
    is_hidden: bool = False
    """It is to be skipped."""
    root: Path | None = None
    """The folder of the root that it is in, unless that is the main one: no link of a recorded
    original may lead out of it."""
    error: ThumbnailError | None = None
    """Why it cannot be imported."""

    @property
    def is_in_place(self) -> bool:
        return self.path == self.target


def find_files(paths: Iterable[Path], *, with_hidden: bool = False) -> Iterator[Found]:
    """Yields all files at or below the paths, in order of their names.

    A path that does not exist, and whose first component is a root's name, is in that root:
    `bucket/2019` is listed by the root's storage. Links to folders are not followed, and the cache
    is skipped. Below a path, hidden files and folders (whose name begins with a dot) are marked
    `is_hidden`, and hidden folders are not entered, unless `with_hidden`. Raises UsageError for a
    path that does not exist.
    """
    folders = originals.folders()
    cache_root = cache.folder()
    for given in paths:
        if (name := _name_in_storage(given)) is not None:
            yield from _objects_below(name, given, with_hidden=with_hidden)
            continue
        named = _existing(given, folders)
        if cache_root is not None and named.is_relative_to(cache_root):
            continue
        if "" not in folders and originals.name_of(named, folders) is None:
            raise UsageError("Only originals that are kept in a folder can be imported by path.")
        for path in _files_below(named, cache_root, with_hidden=with_hidden):
            is_hidden = _is_hidden(path.name) and path != named and not with_hidden
            yield from _found(path, named, folders, is_hidden=is_hidden)


def _found(
    path: Path, named: Path, folders: dict[str, Path], *, is_hidden: bool
) -> Iterator[Found]:
    name = originals.name_of(path, folders)
    if name is None:
        name = f"imported/{_copied_name(path, named)}"
        yield Found(path, name, folders[""] / name, named, is_hidden)
    elif not sources.PART_NAME.fullmatch(path.name):
        root = originals.root_of(name)
        yield Found(path, name, path, named, is_hidden, folders[root] if root else None)


def _objects_below(name: str, given: Path, *, with_hidden: bool) -> Iterator[Found]:
    """Yields the originals of a root that is not on disk."""
    entries = listing.entries_below(name, with_hidden=with_hidden)
    first = next(entries, None)
    if first is None:
        try:
            originals.source_version(name)
        except SourceMissing:
            raise UsageError(f"There is no file or folder {given}.") from None
        except StorageFailure:
            pass  # the import refuses it, and says why
        first = listing.Entry(name)
    for entry in chain([first], entries):
        path = Path(entry.name)
        is_skipped = _is_hidden(path.name) and entry.name != name and not with_hidden
        is_hidden = is_skipped and entry.error is None
        yield Found(path, entry.name, None, path, is_hidden, error=entry.error)


def import_files(files: Iterable[Found], *, session: str = "") -> Iterator[ImportResult]:
    """Record each file once, and put new ones into the first session of that name, if one is given.

    Yields the results. A file that is in no root is copied to the main folder. Nothing is decoded.
    A bad file is refused; raises UsageError for a bad session name.
    """
    group = session_named(session) if session else None
    for batch in batched(files, BATCH):
        yield from _import_batch(batch, group)


def import_file(path: Path, *, session: str = "") -> ImageAsset:
    """Import one file. Returns its asset. Raises Unsupported if it is refused."""
    found = next(find_files([path]))
    (result,) = import_files([found], session=session)
    if result.reason is not None:
        raise Unsupported(result.detail)
    render_soon([found.name])
    return ImageAsset.objects.get(original=found.name)


def read_facts(asset: ImageAsset, folders: Mapping[str, Path]) -> bool:
    """Set the asset's facts from its original's header; nothing is saved.

    `folders` are the `originals.folders()`. Returns False if its version is the recorded one.
    Raises ThumbnailError.
    """
    name = str(asset.original.name)
    if (tracked := _tracked(name)) is not None:
        return _take(tracked, asset) != ImportOutcome.KNOWN
    root = originals.root_of(name)
    folder = folders.get(root)
    path = None if folder is None else folder / name.removeprefix(f"{root}/" if root else "")
    in_root = folder if root else None
    found = Found(path or Path(name), name, path, folder or Path(name), root=in_root)
    return _take(found, asset) != ImportOutcome.KNOWN


def _tracked(name: str) -> Found | None:
    """The file of a tracked field; None if the name is another original's."""
    located = originals.locate_tracked(name)
    if located is None:
        return None
    path = None if located.folder is None else Path(located.storage.path(located.name))
    return Found(path or Path(name), name, path, None)


def record_facts(asset: ImageAsset, facts: Facts) -> None:
    """Record the facts of a new original, and its source version as stored."""
    version = ""
    with suppress(ThumbnailError):  # the first render records the version, or why it fails
        version = originals.source_version(str(asset.original.name))
    _set(asset, facts, version)
    asset.save(update_fields=[*facts.as_dict(), "source_version"])
    render_soon([str(asset.original.name)])


def replace_original(asset: ImageAsset, file: BinaryIO, facts: Facts, *, name: str) -> None:
    """Replace the asset's original by the image in `file`, which has these facts.

    The thumbnail of the old one is deleted, before the row has the new one: a web server would
    send it under the new address. After a rollback its next request renders it again. The new file
    is stored under a new name and the old one is kept. Raises StorageFailure, UsageError for a file
    of a tracked field, or ImageAsset.DoesNotExist if the asset was deleted meanwhile; none changes
    anything else.
    """
    if originals.locate(str(asset.original.name)).is_tracked:
        raise UsageError(f"{asset} is a file of another model's row: replace it there.")
    file.seek(0)
    with translated_writing("The original cannot be stored"):
        asset.original.save(name, File(file), save=False)
    new_name = str(asset.original.name)
    version = originals.source_version(new_name)
    recorded = tuple(asset.thumbnail_variants)
    try:
        cache.delete_with_variants(asset.pk, variants_of(asset))
    except StorageFailure:
        originals.storage().delete(new_name)
        raise
    _set(asset, facts, version)
    replaced = ImageAsset.objects.filter(pk=asset.pk).update(
        original=new_name,
        source_version=version,
        thumbnail_revision=F("thumbnail_revision") + 1,
        **facts.as_dict(),
        **asdict(NO_THUMBNAIL),
        **asdict(NO_FAILURE),
    )
    if not replaced:
        originals.storage().delete(new_name)
        raise ImageAsset.DoesNotExist
    # Once more: one of the old original may have been rendered since.
    transaction.on_commit(partial(delete_unrecorded, asset.pk, recorded))
    purged = Changed(
        asset_id=asset.pk,
        change=Change.PURGED,
        before=asset.recorded_fingerprint,
        variants=recorded,
    )
    tell_on_commit([purged])


def _import_batch(batch: list[Found], session: TrainingSession | None) -> list[ImportResult]:
    names = [found.name for found in batch if is_text(found.name)]
    assets = {
        str(asset.original.name): asset for asset in ImageAsset.objects.filter(original__in=names)
    }
    results = []
    changed: dict[str, ImageAsset] = {}
    for found in batch:
        asset = assets.get(found.name) or ImageAsset(original=found.name)
        result = _import_one(found, asset)
        results.append(result)
        if result.outcome in (ImportOutcome.ADDED, ImportOutcome.UPDATED):
            assets[found.name] = changed[found.name] = asset
    new = [asset for asset in changed.values() if not asset.pk]
    updated = [asset for asset in changed.values() if asset.pk]
    with transaction.atomic():
        # Another import may have recorded the same file meanwhile, with the same facts.
        ImageAsset.objects.bulk_create(new, ignore_conflicts=True)
        if updated:
            ImageAsset.objects.bulk_update(updated, FACT_COLUMNS)
        if session is not None and new:
            _add_to_session(session, [str(asset.original.name) for asset in new])
    return results


def _add_to_session(session: TrainingSession, names: list[str]) -> None:
    # By their names: what is created despite conflicts has no id in memory.
    rows = ImageAsset.objects.filter(original__in=names).values_list("pk", "created_at")
    SessionImage.objects.add((session.pk, pk, created_at) for pk, created_at in rows)


def _import_one(found: Found, asset: ImageAsset) -> ImportResult:
    if found.is_hidden:
        return ImportResult(path=found.path, original=found.name, outcome=ImportOutcome.HIDDEN)
    try:
        return ImportResult(path=found.path, original=found.name, outcome=_take(found, asset))
    except ThumbnailError as error:
        return ImportResult(
            path=found.path,
            original=found.name,
            outcome=ImportOutcome.REFUSED,
            reason=error.reason,
            detail=str(error),
        )


def _take(found: Found, asset: ImageAsset) -> ImportOutcome:
    """Set the asset's facts from the file, and copy the file if necessary."""
    if found.error is not None:
        raise found.error
    is_new = not asset.pk
    if is_new:
        check_name(found.name)
    if found.target is None:
        return _take_object(found, asset)
    # An original that is recorded already may be a link: it is the site's own in the main folder.
    within = found.root if found.is_in_place and not is_new else found.named
    with sources.opened(found.path, within=within) as source:
        if asset.source_version == source.version and _is_stored(found):
            return ImportOutcome.KNOWN
        settings = conf.current()
        originals.check_size(source.size_bytes, settings.max_bytes)
        facts = pools.worker_pool(large=False).inspect(
            source, name=found.path.name, max_pixels=settings.max_pixels
        )
        if found.is_in_place:
            source.check_unchanged()
        else:
            source.copy_to(found.target)
    _set(asset, facts, source.version)
    return ImportOutcome.ADDED if is_new else ImportOutcome.UPDATED


def _take_object(found: Found, asset: ImageAsset) -> ImportOutcome:
    if asset.source_version and asset.source_version == originals.source_version(found.name):
        return ImportOutcome.KNOWN
    with originals.read(found.name) as original:
        version = original.version
        facts = pools.worker_pool(large=False).inspect(
            original.spool, name=found.path.name, max_pixels=conf.current().max_pixels
        )
    is_new = not asset.pk
    _set(asset, facts, version)
    return ImportOutcome.ADDED if is_new else ImportOutcome.UPDATED


def check_name(name: str) -> None:
    """Raises Unsupported for what cannot be an original's name."""
    if not is_text(name):
        raise Unsupported("The file's name is not valid UTF-8.")
    if len(name) > NAME_LENGTH:
        raise Unsupported(f"The file's name has more than {NAME_LENGTH} characters.")
    if not name.isprintable() and any(unicodedata.category(one) == "Cc" for one in name):
        # In a terminal or a log they could forge lines and commands.
        raise Unsupported("The file's name has control characters.")


def _is_stored(found: Found) -> bool:
    """Whether the original exists: a copy may have been lost."""
    with suppress(OSError):
        return found.target is not None and found.target.exists()
    return False


def _set(asset: ImageAsset, facts: Facts, source_version: str) -> None:
    for column, value in facts.as_dict().items():
        setattr(asset, column, value)
    asset.source_version = source_version


def _name_in_storage(given: Path) -> str | None:
    """The name of what is in a root that is not on disk; None if `given` is anything else."""
    name = given.as_posix()
    root = originals.root_of(name)
    is_object = root in originals.configured_roots() and originals.locate(root).folder is None
    return name if is_object and not _exists(given) else None


def _existing(given: Path, folders: dict[str, Path]) -> Path:
    if _exists(given):
        return given.resolve()
    root = originals.root_of(given.as_posix())
    if root and originals.locate(root).is_tracked:
        raise UsageError(
            f"The originals of {root} are those of a tracked field: manage.py track_images "
            "records them."
        )
    if root and root not in folders:
        raise UsageError(f"The root {root} does not answer.")
    if root and _exists(path := folders[root].joinpath(*given.parts[1:])):
        return path.resolve()
    raise UsageError(f"There is no file or folder {given}.")


def _exists(path: Path) -> bool:
    try:
        return path.resolve().exists()
    except (OSError, RuntimeError):  # name too long, circular links
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _files_below(named: Path, skipped: Path | None, *, with_hidden: bool) -> Iterator[Path]:
    """Yields files in order of their names, and folders that are hidden or cannot be listed.

    Not recursive, as Python's own walk: folders may be nested deeper than its stack allows.
    """
    waiting = [named]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=attrgetter("name"))
        except OSError:  # a file, or it cannot be listed
            yield folder
            continue
        below = []
        for entry in entries:
            path = folder / entry.name
            if not _is_folder(entry) or (_is_hidden(entry.name) and not with_hidden):
                yield path
            elif not entry.is_symlink() and path != skipped:
                below.append(path)
        waiting += reversed(below)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # circular links
        return False


def session_named(name: str) -> TrainingSession:
    """Returns the first session of that name, created if there is none. Raises UsageError."""
    longest = TrainingSession._meta.get_field("name").max_length
    if not is_text(name) or len(name) > (longest or 0):
        raise UsageError(f"A session's name is valid text of at most {longest} characters.")
    first = TrainingSession.objects.filter(name=name).order_by("pk").first()
    return first or TrainingSession.objects.create(name=name)


def _copied_name(file: Path, given: Path) -> str:
    """The same on every import of a folder, and unlike that of another folder of its name."""
    base = given if given.is_dir() else given.parent
    digest = hashlib.sha256(os.fsencode(base)).hexdigest()[:8]
    return f"{base.name or 'root'}-{digest}/{file.relative_to(base).as_posix()}"


def is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

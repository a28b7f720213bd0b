"""How originals come to be known: recorded by what their header says, never decoded."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from django.core.files import File
from django.core.files.storage import FileSystemStorage
from django.db import transaction
from django.db.models import F

from thumbnails import conf
from thumbnails.exceptions import (
    Reason,
    StorageFailure,
    ThumbnailError,
    Unsupported,
    UsageError,
)
from thumbnails.models import ImageAsset, TrainingSession
from thumbnails.models.assets import NAME_LENGTH, NO_FAILURE, NO_THUMBNAIL
from thumbnails.rendering import Facts
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.errors import translated_writing
from thumbnails.upkeep import pools
from thumbnails.upkeep.freshness import delete_unrecorded

BATCH = 500
"""Files that share one question to the database and one transaction."""


PART_NAME = re.compile(r"\.import-[0-9a-f]{16}\.part")
"""Half of a copy: an import is at work on it, or died."""


class Arrival(StrEnum):
    """What became of one file."""

    ADDED = "added"
    UPDATED = "updated"
    KNOWN = "known"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One file of an import."""

    path: Path
    arrival: Arrival
    reason: Reason | None = None
    """Why it was refused, and `detail` in words; None where it was not."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be imported."""

    path: Path
    name: str
    """What it is or will be called in the originals' storage."""


def find_files(paths: Iterable[Path]) -> Iterator[Found]:
    """All files at or below the paths, in the order of their names.

    Links to folders are not followed, and the cache is passed over. Raises UsageError for a path
    that does not exist.
    """
    root = _originals_root()
    cache_root = _cache_root()
    for given in paths:
        path = _existing(given)
        if cache_root is not None and path.is_relative_to(cache_root):
            continue
        for file in _files_below(path, cache_root):
            if PART_NAME.fullmatch(file.name) and file.is_relative_to(root):
                continue
            if file.is_relative_to(root):
                yield Found(file, file.relative_to(root).as_posix())
            else:
                yield Found(file, f"imported/{_copied_name(file, path)}")


def import_files(files: Iterable[Found], *, session: str = "") -> Iterator[Arrived]:
    """Record each file once, under the session of that name if one is given.

    A file outside the originals' folder is copied there. Nothing is decoded. Raises UsageError
    for what is asked wrongly, and nothing over a bad file: it is refused.
    """
    group = _session(session) if session else None
    remaining = iter(files)
    while batch := list(islice(remaining, BATCH)):
        yield from _import_batch(batch, group)


def import_file(path: Path, *, session: str = "") -> ImageAsset:
    """Import one file and give its asset. Raises Unsupported and the like where it is refused."""
    found = next(find_files([path]))
    (arrived,) = import_files([found], session=session)
    if arrived.reason is not None:
        raise Unsupported(arrived.detail)
    return ImageAsset.objects.get(original=found.name)


def record_facts(asset: ImageAsset, facts: Facts) -> None:
    """Record what the header of a new original says, and the version that it was stored as."""
    version = ""
    with suppress(ThumbnailError):  # the first render will find it out, or say why not
        version = originals.source_version(str(asset.original.name))
    _set(asset, facts, version)
    asset.save(update_fields=[*asdict(facts), "source_version"])


def replace_original(asset: ImageAsset, file: BinaryIO, facts: Facts, *, name: str) -> None:
    """Put another picture, of which these are the facts, in place of the asset's original.

    The thumbnail shows another picture from then on, so it goes. The new file is stored under a
    name of its own and the old one is kept. Raises StorageFailure, and ImageAsset.DoesNotExist
    where the asset was deleted meanwhile; both change nothing.
    """
    file.seek(0)
    with translated_writing("The original cannot be stored"):
        asset.original.save(name, File(file), save=False)
    new_name = str(asset.original.name)
    version = originals.source_version(new_name)
    _set(asset, facts, version)
    replaced = ImageAsset.objects.filter(pk=asset.pk).update(
        original=new_name,
        source_version=version,
        thumbnail_revision=F("thumbnail_revision") + 1,
        **asdict(facts),
        **asdict(NO_THUMBNAIL),
        **asdict(NO_FAILURE),
    )
    if not replaced:
        originals.storage().delete(new_name)
        raise ImageAsset.DoesNotExist
    transaction.on_commit(partial(delete_unrecorded, asset.pk))


def _import_batch(batch: list[Found], session: TrainingSession | None) -> list[Arrived]:
    names = [found.name for found in batch if _is_text(found.name)]
    known = {
        str(asset.original.name): asset for asset in ImageAsset.objects.filter(original__in=names)
    }
    arrived = []
    new: list[ImageAsset] = []
    updated: list[ImageAsset] = []
    for found in batch:
        asset = known.get(found.name)
        try:
            version = originals.version_of(found.path)
            if asset is not None and asset.source_version == version and _is_in(found):
                arrived.append(Arrived(path=found.path, arrival=Arrival.KNOWN))
                continue
            facts = _look_at(found)
            if asset is None:
                asset = known[found.name] = ImageAsset(original=found.name, session=session)
                new.append(asset)
                arrival = Arrival.ADDED
            else:
                updated.append(asset)
                arrival = Arrival.UPDATED
            _set(asset, facts, version)
            arrived.append(Arrived(path=found.path, arrival=arrival))
        except ThumbnailError as error:
            arrived.append(
                Arrived(
                    path=found.path,
                    arrival=Arrival.REFUSED,
                    reason=error.reason,
                    detail=str(error),
                )
            )
    with transaction.atomic():
        # Another import may have recorded the same file meanwhile, from the same header.
        ImageAsset.objects.bulk_create(new, ignore_conflicts=True)
        if updated:
            ImageAsset.objects.bulk_update(updated, [*Facts.__slots__, "source_version"])
    return arrived


def _look_at(found: Found) -> Facts:
    """The file's facts; it lies in the originals' folder when this returns."""
    if not _is_text(found.name):
        raise Unsupported("The file's name is not valid UTF-8.")
    if len(found.name) > NAME_LENGTH:
        raise Unsupported(f"The file's name has more than {NAME_LENGTH} characters.")
    try:
        if found.path.exists() and not (found.path.is_file() or found.path.is_dir()):
            raise Unsupported("Neither a file nor a folder.")
        with found.path.open("rb") as file:
            facts = pools.worker_pool(large=False).inspect(
                file, name=found.path.name, max_pixels=conf.current().max_pixels
            )
        _bring_in(found)
    except OSError as error:
        raise StorageFailure(f"It cannot be read or copied: {error.strerror}.") from error
    return facts


def _bring_in(found: Found) -> None:
    target = _originals_root() / found.name
    if target == found.path:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".import-{secrets.token_hex(8)}.part")
    try:
        # With its modification time: that is half of what tells on the next import if it changed.
        shutil.copy2(found.path, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _is_in(found: Found) -> bool:
    """Whether the original is there: a copy may have been lost."""
    target = _originals_root() / found.name
    return target == found.path or target.exists()


def _set(asset: ImageAsset, facts: Facts, source_version: str) -> None:
    for column, value in asdict(facts).items():
        setattr(asset, column, value)
    asset.source_version = source_version


def _existing(given: Path) -> Path:
    try:
        path = given.resolve()
        if path.exists():
            return path
    except (OSError, RuntimeError):  # too long a name, links in a circle
        pass
    raise UsageError(f"There is no file or folder {given}.")


def _files_below(path: Path, cache_root: Path | None) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    closed: list[Path] = []
    for folder, folders, files in os.walk(
        path, onerror=lambda error: closed.append(Path(error.filename))
    ):
        folders[:] = sorted(name for name in folders if Path(folder) / name != cache_root)
        yield from (Path(folder) / name for name in sorted(files))
    # Folders that cannot be listed are told as what cannot be read.
    yield from closed


def _session(name: str) -> TrainingSession:
    longest = TrainingSession._meta.get_field("name").max_length
    if not _is_text(name) or len(name) > (longest or 0):
        raise UsageError(f"A session's name is valid text of at most {longest} characters.")
    return TrainingSession.objects.get_or_create(name=name)[0]


def _copied_name(file: Path, given: Path) -> str:
    """The same on every import of that folder, and another for a folder of the same name."""
    base = given if given.is_dir() else given.parent
    digest = hashlib.sha256(os.fsencode(base)).hexdigest()[:8]
    return f"{base.name or 'root'}-{digest}/{file.relative_to(base).as_posix()}"


def _originals_root() -> Path:
    store = originals.storage()
    if not isinstance(store, FileSystemStorage):
        raise UsageError("Only originals that are kept in a folder can be imported by path.")
    return Path(store.location).resolve()


def _cache_root() -> Path | None:
    store = cache.storage()
    return Path(store.location).resolve() if isinstance(store, FileSystemStorage) else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

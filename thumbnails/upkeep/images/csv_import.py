"""Importing images with their ids from another service's table, and taking its thumbnails over.

The table may have millions of rows, so that they are read and saved in batches.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Self

from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from thumbnails.batching import batched
from thumbnails.exceptions import ThumbnailError, Unsupported
from thumbnails.models import ImageAsset, SessionImage, TrainingSession
from thumbnails.models.inserting import insert
from thumbnails.models.results import Result, save_results
from thumbnails.models.sequences import keep_free
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images.adoption import copied, read_old
from thumbnails.upkeep.images.csv_rows import BadRow, Problem, Row, read_rows
from thumbnails.upkeep.images.csv_seen import SeenRows
from thumbnails.upkeep.images.importing import FACT_COLUMNS, check_name, read_facts, session_named

BATCH = 2_000
"""Rows that share their queries and one transaction."""
RESERVE = 100_000
COPIES_AT_ONCE = 8
"""Each waits until the disk has written it."""


class RowOutcome(StrEnum):
    """Result for one row."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REPEATED = "repeated"
    """Another row of an image, which is in several sessions."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result for one row."""

    line: int
    outcome: RowOutcome
    problem: BadRow | None = None
    """Why it was refused, or what could not be taken over with it."""
    original: str = ""
    """The name of its image's original; empty if it was refused or repeated."""

    @property
    def is_new(self) -> bool:
        return self.outcome == RowOutcome.ADDED

    @property
    def has_changed(self) -> bool:
        return self.is_new or self.outcome == RowOutcome.UPDATED


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a table is imported."""

    with_facts: bool = True
    """Read the facts of each original; otherwise its first render records them."""
    old_thumbnails: Path | None = None
    """The folder that a relative `thumbnail_path` is below; by default the cache's folder."""
    reserve: int = RESERVE
    """New ids begin that far after the largest imported one: the other service may go on to use
    those in between."""
    dry_run: bool = False


@dataclass(slots=True)
class _Image:
    """An image of a batch, by its first row."""

    row: Row
    asset: ImageAsset
    outcome: RowOutcome
    problem: BadRow | None = None


class TableImport:
    """One import of a table. Imported again, the same table is a sync."""

    def __init__(self, options: ImportOptions) -> None:
        self._options = options
        self._seen = SeenRows()
        self._sessions = _Sessions()
        self._last_reserved = 0
        self._folders = originals.folders()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.close()

    def import_rows(self, file: BinaryIO) -> Iterator[RowResult]:
        """Yields the result of each row. Saves the rows of each batch in one transaction.

        Raises UsageError for a wrong header.
        """
        for batch in batched(read_rows(file), BATCH):
            try:
                results = self._import_batch(batch)
            except IntegrityError:  # another process has imported one of them meanwhile
                self._sessions = _Sessions()
                results = self._import_batch(batch)
            self._seen.save()
            yield from results

    def gone(self) -> Iterator[int]:
        """Yields the ids up to the largest one of the table that no row of it has."""
        ids = ImageAsset.objects.filter(pk__lte=self._seen.largest_id()).order_by("pk")
        for batch in batched(ids.values_list("pk", flat=True).iterator(BATCH), BATCH):
            yield from sorted(set(batch) - self._seen.ids_of(batch))

    # --- one batch ----------------------------------------------------------------------------

    def _import_batch(self, batch: list[tuple[int, Row | BadRow]]) -> list[RowResult]:
        rows, results = _named(batch, self._folders)
        self._seen.load(rows)
        known = ImageAsset.objects.in_bulk([row.id for row, _ in rows])
        owners = dict(
            ImageAsset.objects.filter(original__in=[name for _, name in rows]).values_list(
                "original", "pk"
            )
        )
        images: dict[int, _Image] = {}
        accepted: list[Row] = []
        for row, name in rows:
            try:
                if self._seen.is_repeated(row, name):
                    results.append(RowResult(row.line, RowOutcome.REPEATED))
                else:
                    images[row.id] = self._image(row, name, known.get(row.id), owners.get(name))
            except BadRow as bad:
                results.append(RowResult(row.line, RowOutcome.REFUSED, bad))
            else:
                accepted.append(row)
        if not self._options.dry_run:
            with transaction.atomic():
                self._save(images, accepted)
        self._take_over(images.values())
        results += [
            RowResult(image.row.line, image.outcome, image.problem, str(image.asset.original.name))
            for image in images.values()
        ]
        return results

    def _image(self, row: Row, name: str, asset: ImageAsset | None, owner: int | None) -> _Image:
        """Raises BadRow, also for later rows of that image."""
        try:
            return self._described(row, name, asset, owner)
        except BadRow:
            self._seen.refuse(row.id)
            raise

    def _described(
        self, row: Row, name: str, asset: ImageAsset | None, owner: int | None
    ) -> _Image:
        """Raises BadRow if the database has another image of that id or of that path."""
        if asset is None:
            if owner is not None:
                raise BadRow(Problem.CONFLICT, f"{name} is the original of image {owner}.")
            asset = ImageAsset(
                pk=row.id, original=name, created_at=row.created_at or timezone.now()
            )
            image = _Image(row, asset, RowOutcome.ADDED)
        elif str(asset.original.name) != name:
            raise BadRow(
                Problem.CONFLICT, f"Image {row.id} has the original {asset.original.name}."
            )
        else:
            image = _Image(row, asset, RowOutcome.UNCHANGED)
            if row.created_at is not None and row.created_at != asset.created_at:
                asset.created_at = row.created_at
                image.outcome = RowOutcome.UPDATED
        if self._options.with_facts:
            self._look_at_original(image, name)
        return image

    def _look_at_original(self, image: _Image, name: str) -> None:
        try:
            has_changed = read_facts(image.asset, self._folders)
        except ThumbnailError as error:
            if originals.is_folder(name):
                raise BadRow(Problem.NOT_A_FILE, f"{name} is a folder.") from error
            image.problem = BadRow(Problem.ORIGINAL, str(error))
            return
        if has_changed and image.outcome == RowOutcome.UNCHANGED:
            image.outcome = RowOutcome.UPDATED

    # --- saving -------------------------------------------------------------------------------

    def _save(self, images: dict[int, _Image], rows: list[Row]) -> None:
        self._sessions.save(rows, self._options.reserve)
        new = [image.asset for image in images.values() if image.outcome == RowOutcome.ADDED]
        changed = [image.asset for image in images.values() if image.outcome == RowOutcome.UPDATED]
        facts = FACT_COLUMNS if self._options.with_facts else ()
        names = ("id", "original", "created_at", *facts)
        rows_of = attrgetter(*names)
        insert(ImageAsset, names, map(rows_of, new))
        if changed:
            ImageAsset.objects.bulk_update(changed, [*FACT_COLUMNS, "created_at"])
            dates = ImageAsset.objects.filter(pk=OuterRef("image")).values("created_at")
            members = SessionImage.objects.filter(image__in=changed)
            members.update(created_at=Subquery(dates))
        self._save_memberships(images, rows)
        last = max((row.id for row in rows), default=0) + self._options.reserve
        if rows and last > self._last_reserved:
            keep_free(ImageAsset, last)
            self._last_reserved = last

    def _save_memberships(self, images: dict[int, _Image], rows: list[Row]) -> None:
        wanted = {
            (session_id, row.id)
            for row in rows
            if (session_id := self._sessions.id_of(row)) is not None
        }
        if not wanted:
            return
        ids = {image_id for _, image_id in wanted}
        dates = {image_id: image.asset.created_at for image_id, image in images.items()}
        earlier = ImageAsset.objects.filter(pk__in=ids - dates.keys())
        dates |= earlier.values_list("pk", "created_at")
        new = {image_id for image_id, image in images.items() if image.outcome == RowOutcome.ADDED}
        there = SessionImage.objects.filter(image__in=ids - new).values_list(
            "session_id", "image_id"
        )
        missing = wanted - set(there)
        SessionImage.objects.add(
            (session_id, image_id, dates[image_id]) for session_id, image_id in sorted(missing)
        )
        for _, image_id in missing:
            image = images.get(image_id)
            if image is not None and image.outcome == RowOutcome.UNCHANGED:
                image.outcome = RowOutcome.UPDATED

    # --- old thumbnails -----------------------------------------------------------------------

    def _take_over(self, images: Iterable[_Image]) -> None:
        """Copy the old thumbnails of images that have none, and record them."""
        old = [
            image
            for image in images
            if image.row.thumbnail_path is not None and not image.asset.thumbnail_path
        ]
        if not old:
            return
        with ThreadPoolExecutor(COPIES_AT_ONCE) as threads:
            results = list(threads.map(self._copy_old, old))
        save_results(result for result in results if result is not None)

    def _copy_old(self, image: _Image) -> Result | None:
        folder = self._options.old_thumbnails or cache.folder()
        try:
            old = read_old(Path(folder or "/", image.row.thumbnail_path or ""))
            if old.problem:
                image.problem = BadRow(Problem.THUMBNAIL, old.problem)
            return None if self._options.dry_run else copied(image.asset, old)
        except ThumbnailError as error:
            image.problem = BadRow(Problem.THUMBNAIL, str(error))
            return None


def _named(
    batch: list[tuple[int, Row | BadRow]], folders: Mapping[str, Path]
) -> tuple[list[tuple[Row, str]], list[RowResult]]:
    """Returns the rows with the names of their originals, and the results of bad ones."""
    rows, refused = [], []
    for line, row in batch:
        try:
            if isinstance(row, BadRow):
                raise row
            rows.append((row, _name(row, folders)))
        except BadRow as bad:
            refused.append(RowResult(line, RowOutcome.REFUSED, bad))
    return rows, refused


def _name(row: Row, folders: Mapping[str, Path]) -> str:
    """The original's name. Raises BadRow for a path that is not below any folder of originals."""
    path = Path(row.path)
    name: str | None
    if path.is_absolute():
        name = originals.name_of(_resolved(path.parent) / path.name, folders)
        if name is None:
            raise BadRow(Problem.PATH, f"{row.path} is in none of the folders of originals.")
    elif not path.parts or ".." in path.parts:
        raise BadRow(Problem.PATH, f"{row.path} is not the name of an original.")
    else:
        name = path.as_posix()
    try:
        check_name(name)
    except Unsupported as error:
        raise BadRow(Problem.PATH, str(error)) from error
    return name


@lru_cache(maxsize=1_000)
def _resolved(folder: Path) -> Path:
    # Once for a folder: a table of a million images has few.
    try:
        return folder.resolve()
    except (OSError, RuntimeError, ValueError):  # name too long, circular links
        return folder


class _Sessions:
    """Sessions by the rows' ids and names, created when they are first named."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        """Of sessions that rows name without an id."""

    def id_of(self, row: Row) -> int | None:
        if row.session_id is not None or not row.session_name:
            return row.session_id
        return self._ids[row.session_name]

    def save(self, rows: list[Row], reserve: int) -> None:
        with_id = {row.session_id: row.session_name for row in rows if row.session_id is not None}
        new = {
            session_id: name
            for session_id, name in with_id.items()
            if self._names.get(session_id) != (name or f"Session {session_id}")
        }
        if new:
            known = TrainingSession.objects.in_bulk(new)
            for session_id, name in new.items():
                self._save_one(session_id, name, known.get(session_id))
            keep_free(TrainingSession, max(self._names) + reserve)
        for name in {row.session_name for row in rows if row.session_id is None} - {""}:
            if name not in self._ids:
                self._ids[name] = session_named(name).pk

    def _save_one(self, session_id: int, name: str, known: TrainingSession | None) -> None:
        if known is None:
            known = TrainingSession.objects.create(
                pk=session_id, name=name or f"Session {session_id}"
            )
        elif name and known.name != name:
            known.name = name
            known.save(update_fields=["name"])
        self._names[session_id] = known.name

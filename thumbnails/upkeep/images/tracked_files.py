"""Bringing images in line with the files of a tracked field."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.core.exceptions import SuspiciousFileOperation
from django.db import router, transaction
from django.db.models import Max

from thumbnails.batching import batched
from thumbnails.exceptions import ThumbnailError, Unsupported
from thumbnails.models import ImageAsset
from thumbnails.storage import originals
from thumbnails.upkeep.images.importing import FACT_COLUMNS, check_name, read_facts
from thumbnails.upkeep.images.rescan import FEW, SHARE_AT_MOST
from thumbnails.upkeep.images.tracked_fields import TrackedField, assets_of, file_name

BATCH = 1_000
"""Rows or files that share their queries."""


class FileOutcome(StrEnum):
    """What was found of a file."""

    ADDED = "added"
    UPDATED = "updated"
    """It was replaced under the same name."""
    KNOWN = "known"
    UNREAD = "unread"
    """It cannot be read now; it is an image all the same."""
    REFUSED = "refused"
    """Its name cannot be an original's."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result for one file."""

    file: str
    outcome: FileOutcome
    detail: str = ""
    """Why it is unread or refused."""
    asset: ImageAsset | None = None
    """Its image; None if it is refused."""
    original: str = ""
    """The name of its original."""
    is_new: bool = False
    """Whether it was none before."""

    @property
    def has_changed(self) -> bool:
        """Whether its image is new, or has another original than before."""
        return self.is_new or self.outcome == FileOutcome.UPDATED


def record(
    found: TrackedField, files: Iterable[str], *, reads_objects: bool, save: bool = True
) -> list[FileResult]:
    """Make an image of each file that is none yet, and record those that were replaced."""
    assets = assets_of({found.original(file) for file in files})
    results = []
    changed: list[ImageAsset] = []
    for file in files:
        name = found.original(file)
        asset = assets.get(name) or ImageAsset(original=name)
        result = _looked_at(file, asset, reads_objects=reads_objects)
        results.append(result)
        if result.has_changed:
            changed.append(asset)
    if save and changed:
        _save(changed)
    return results


def _looked_at(file: str, asset: ImageAsset, *, reads_objects: bool) -> FileResult:
    """Set the asset's facts if its original is new or has changed; nothing is saved."""
    name, is_new = str(asset.original.name), not asset.pk
    try:
        check_name(name)
        located = originals.locate(name)
    except (Unsupported, SuspiciousFileOperation) as error:
        return FileResult(file, FileOutcome.REFUSED, str(error))
    try:
        if reads_objects or located.folder is not None:
            has_changed = read_facts(asset, {})
        else:
            has_changed = _has_changed_object(asset)
    except ThumbnailError as error:
        return FileResult(file, FileOutcome.UNREAD, str(error), asset, name, is_new)
    outcome = FileOutcome.UPDATED if has_changed else FileOutcome.KNOWN
    return FileResult(file, FileOutcome.ADDED if is_new else outcome, "", asset, name, is_new)


def _has_changed_object(asset: ImageAsset) -> bool:
    """Void the asset's version if its original has another one: the next render records that, and
    the facts. Raises ThumbnailError."""
    if not asset.source_version:
        return False
    if originals.source_version(str(asset.original.name)) == asset.source_version:
        return False
    asset.source_version = ""
    return True


def _save(assets: list[ImageAsset]) -> None:
    with transaction.atomic(using=router.db_for_write(ImageAsset)):
        # Another process may have recorded the same file meanwhile, with the same facts.
        new = [asset for asset in assets if not asset.pk]
        ImageAsset.objects.bulk_create(new, ignore_conflicts=True)
        if known := [asset for asset in assets if asset.pk]:
            ImageAsset.objects.bulk_update(known, FACT_COLUMNS)


def without_row(found: TrackedField, files: Sequence[str], databases: Iterable[str]) -> set[str]:
    """Those of the files that no row has: several may have the same one."""
    remaining = set(files)
    for using in databases:
        if remaining:
            conditions = {f"{found.name}__in": list(remaining)}
            remaining -= {file for _, file in found.files(using, **conditions)}
    return remaining


def delete(found: TrackedField, files: Iterable[str]) -> None:
    """Delete the images of these files, and with them their thumbnails; the files stay."""
    ImageAsset.objects.filter(original__in=[found.original(file) for file in files]).delete()


# --- all rows -------------------------------------------------------------------------------------


class FieldSync:
    """Brings the images of a tracked field in line with all its rows."""

    def __init__(self, found: TrackedField, databases: Sequence[str], *, save: bool) -> None:
        """`databases` are those that have rows, by default the one that the model is written to.
        Without `save` nothing is changed."""
        self._field = found
        self._databases = databases or [router.db_for_write(found.model)]
        self._save = save
        self._with_row: set[int] = set()
        self._last_id = ImageAsset.objects.aggregate(Max("pk"))["pk__max"] or 0
        """Images that are added meanwhile have rows."""
        self._images = 0

    def rows(self) -> int:
        """Returns their number, with a file or without."""
        return sum(self._field.rows(using).count() for using in self._databases)

    def follow_rows(self) -> Iterator[tuple[int, list["FileResult"]]]:
        """Yields how many rows were looked at, and the results of the last BATCH.

        A file of several rows may occur again.
        """
        looked_at = 0
        for using in self._databases:
            rows = self._field.rows(using).order_by("pk")
            last = None
            while batch := list((rows if last is None else rows.filter(pk__gt=last))[:BATCH]):
                last = batch[-1][0]
                files = dict.fromkeys(filter(None, (file_name(file) for _, file in batch)))
                results = record(self._field, files, reads_objects=True, save=self._save)
                self._with_row.update(r.asset.pk for r in results if r.asset and r.asset.pk)
                looked_at += len(batch)
                yield looked_at, results

    def gone(self) -> list[str]:
        """Returns the files of images that no row has. To be called after `follow_rows`."""
        gone: list[str] = []
        prefix = self._field.original("")
        last = 0
        images = ImageAsset.objects.filter(original__startswith=prefix, pk__lte=self._last_id)
        rows = images.order_by("pk").values_list("pk", "original")
        while batch := list(rows.filter(pk__gt=last)[:BATCH]):
            last = batch[-1][0]
            self._images += len(batch)
            without = [name.removeprefix(prefix) for i, name in batch if i not in self._with_row]
            # Asked again: a row may have been saved meanwhile.
            gone += sorted(without_row(self._field, without, self._databases))
        return gone

    def problem(self, gone: Sequence[str], allow_share: float = SHARE_AT_MOST) -> str:
        """Returns why the images of these files must not be deleted; empty if they may be."""
        if len(gone) <= max(FEW - 1, allow_share * self._images):
            return ""
        return (
            f"{len(gone):,} of {self._images:,} images of {self._field.label} are in no row: is it "
            "the right database? None of them was deleted."
        )

    def delete(self, gone: Sequence[str]) -> None:
        """Delete the images of these files, and their thumbnails. The files stay."""
        for files in batched(gone if self._save else (), BATCH):
            delete(self._field, files)

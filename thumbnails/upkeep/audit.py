"""Ledger and cache held against each other.

The files are walked first and the database is asked after. The other order would take a file
that was made in between for an orphan.
"""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import islice

from django.utils import timezone

from thumbnails import conf
from thumbnails.cache import storage as cache
from thumbnails.cache.layout import SHARDS
from thumbnails.cache.storage import CachedFile, Kind
from thumbnails.exceptions import StorageFailure
from thumbnails.models import ImageAsset, Outcome, Run
from thumbnails.models.assets import NO_THUMBNAIL, Change, ImageAssetQuerySet
from thumbnails.rendering import fingerprint_of, is_whole, read_stamp

BATCH = 1000
SHARE_AT_MOST = 0.1
"""Of the files: who would delete more has more likely lost a database than files to clean up."""
UNSETTLED = timedelta(seconds=60)
"""While a run is under way, a file that is younger may be ahead of the ledger."""
TEMPORARY_SECONDS = 2.0
"""A temporary file that is there for longer has lost its writer: writing takes milliseconds."""
EXAMPLES = 20


class Finding(StrEnum):
    """What may be wrong with a file or a row."""

    ORPHAN = "orphan"
    """The thumbnail of no asset."""
    MISSING = "missing"
    """The ledger has it and the cache does not."""
    DAMAGED = "damaged"
    """Empty, cut short, or (deep) not to be decoded."""
    MISMATCHED = "mismatched"
    """Its stamp is not what the ledger says: a restored backup."""
    UNRECORDED = "unrecorded"
    """The ledger calls the asset's thumbnail missing or failed; the next render sees to it."""
    LEFTOVER = "leftover"
    """A temporary file whose writer died."""
    FOREIGN = "foreign"
    """None of ours: told, never touched."""


HARMLESS = {Finding.FOREIGN, Finding.UNRECORDED}


@dataclass(slots=True, kw_only=True)
class Report:
    """What an audit found and did."""

    files: int = 0
    """Thumbnails in the cache."""
    found: dict[Finding, int] = field(default_factory=lambda: dict.fromkeys(Finding, 0))
    examples: dict[Finding, list[str]] = field(default_factory=lambda: {f: [] for f in Finding})
    """Some names of each."""
    fixed: int = 0
    """Findings seen to: files deleted, records cleared for the next regeneration to mend."""
    refusal: str = ""
    """Why nothing was deleted, though it was asked for."""
    errors: list[str] = field(default_factory=list)
    """What the storage failed to tell; then nothing is deleted."""

    @property
    def is_clean(self) -> bool:
        """Nothing is left to be seen to."""
        wrong = sum(n for finding, n in self.found.items() if finding not in HARMLESS)
        return not self.errors and not self.refusal and wrong <= self.fixed

    def note(self, finding: Finding, name: str) -> None:
        self.found[finding] += 1
        if len(self.examples[finding]) < EXAMPLES:
            self.examples[finding].append(name)


def audit(
    *,
    fix: bool = False,
    deep: bool = False,
    allow_share: float = SHARE_AT_MOST,
    on_shard: Callable[[int], None] = lambda _: None,
) -> Report:
    """Look at every file and every row, shard after shard: memory does not grow with the cache.

    `deep` decodes every file. `fix` deletes orphans, leftovers and damaged files, and clears the
    record of what is missing, damaged or mismatched. It deletes nothing where the database has no
    assets, where more than `allow_share` of the files would go, or where the storage erred.
    `on_shard` is told how many shards are done.
    """
    report = Report()
    doomed: list[CachedFile] = []
    run_under_way = Run.objects.running().exists()
    temporary: list[CachedFile] = []
    for done, shard in enumerate(SHARDS, start=1):
        try:
            files = list(cache.survey(shard))
            doomed += _audit_shard(files, report, fix=fix, deep=deep, under_way=run_under_way)
        except StorageFailure as error:
            report.errors.append(str(error))
        else:
            temporary += [file for file in files if file.kind == Kind.TEMPORARY]
        on_shard(done)
    _audit_rows(report, fix=fix)
    _audit_beside_shards(report)
    doomed += _leftovers(temporary, report)
    if fix and doomed:
        _delete(doomed, report, allow_share)
    return report


def _audit_shard(
    files: list[CachedFile], report: Report, *, fix: bool, deep: bool, under_way: bool
) -> list[CachedFile]:
    """Hold one shard's files against their rows; gives those that are to be deleted."""
    for file in files:
        if file.kind == Kind.FOREIGN:
            report.note(Finding.FOREIGN, file.name)
    thumbnails = [file for file in files if file.kind == Kind.THUMBNAIL]
    report.files += len(thumbnails)
    stamps = {file.asset_id: _look_at(file, deep=deep) for file in thumbnails}
    assets = _assets_of(thumbnails)
    doomed: list[CachedFile] = []
    mismatched: list[int] = []
    for file in thumbnails:
        finding = _judge(file, stamps[file.asset_id], assets.get(file.asset_id))
        if finding is None or (finding == Finding.MISMATCHED and under_way and _is_young(file)):
            continue
        report.note(finding, file.name)
        if finding in (Finding.ORPHAN, Finding.DAMAGED):
            doomed.append(file)
        elif finding == Finding.MISMATCHED:
            mismatched.append(file.asset_id)
    if fix:
        report.fixed += _clear_records(mismatched)
    return doomed


def _look_at(file: CachedFile, *, deep: bool) -> str | None:
    """The file's stamp; None where it is damaged. Raises StorageFailure."""
    content = cache.read(file.name)
    if content is None:
        return None
    stamp = read_stamp(io.BytesIO(content))
    if deep and not is_whole(io.BytesIO(content), max_pixels=conf.current().max_pixels):
        return None
    return stamp


def _assets_of(files: list[CachedFile]) -> dict[int, ImageAsset]:
    """The rows of these files; a shard of a site of many millions is asked for in parts."""
    ids = iter([file.asset_id for file in files])
    found: dict[int, ImageAsset] = {}
    columns = ("thumbnail_path", "thumbnail_bytes", "thumbnail_recipe", "thumbnail_source")
    while batch := list(islice(ids, BATCH)):
        found |= ImageAsset.objects.only(*columns).in_bulk(batch)
    return found


def _judge(file: CachedFile, stamp: str | None, asset: ImageAsset | None) -> Finding | None:
    if asset is None:
        return Finding.ORPHAN
    if stamp is None:
        return Finding.DAMAGED
    if not asset.thumbnail_path:
        return Finding.UNRECORDED
    if stamp != fingerprint_of(asset.thumbnail_recipe, asset.thumbnail_source):
        return Finding.MISMATCHED
    return None if file.size_bytes == asset.thumbnail_bytes else Finding.DAMAGED


def _is_young(file: CachedFile) -> bool:
    modified = cache.modified_at(file.name)
    return modified is not None and timezone.now() - modified < UNSETTLED


def _audit_rows(report: Report, *, fix: bool) -> None:
    """Find the thumbnails that the ledger has and the cache does not."""
    rows = ImageAsset.objects.exclude(thumbnail_path="").order_by("pk")
    missing: list[int] = []
    for asset_id, path in rows.values_list("pk", "thumbnail_path").iterator(chunk_size=10_000):
        try:
            if cache.size_bytes(path) is not None:
                continue
        except StorageFailure as error:
            report.errors.append(str(error))
            return
        report.note(Finding.MISSING, path)
        missing.append(asset_id)
        if fix and len(missing) == BATCH:
            report.fixed += _clear_records(missing)
            missing = []
    if fix:
        report.fixed += _clear_records(missing)


def _audit_beside_shards(report: Report) -> None:
    try:
        for file in cache.foreign_beside_shards():
            report.note(Finding.FOREIGN, file.name)
    except StorageFailure as error:
        report.errors.append(str(error))


def _leftovers(temporary: list[CachedFile], report: Report) -> list[CachedFile]:
    """Those temporary files that are still there after a while: nobody finishes them."""
    if not temporary:
        return []
    time.sleep(TEMPORARY_SECONDS)
    left = [file for file in temporary if cache.size_bytes(file.name) is not None]
    for file in left:
        report.note(Finding.LEFTOVER, file.name)
    return left


def _delete(doomed: list[CachedFile], report: Report, allow_share: float) -> None:
    report.refusal = _refusal(doomed, report, allow_share)
    if report.refusal:
        return
    for file in doomed:
        try:
            cache.delete(file.name)
        except StorageFailure as error:
            report.errors.append(str(error))
        else:
            report.fixed += 1
    _clear_records([file.asset_id for file in doomed if file.asset_id])


def _refusal(doomed: list[CachedFile], report: Report, allow_share: float) -> str:
    """Why not to delete; empty where nothing speaks against it."""
    if report.errors:
        return "Nothing is deleted: the storage did not tell everything."
    if not ImageAsset.objects.exists():
        return "Nothing is deleted: the database has no images at all. Is it the right one?"
    thumbnails = sum(1 for file in doomed if file.kind == Kind.THUMBNAIL)
    if thumbnails > allow_share * report.files:
        share = thumbnails / report.files
        return (
            f"Nothing is deleted: {thumbnails:,} of {report.files:,} files would go. If that is "
            f"right: --allow-share {min(1.0, share + 0.01):.2f}"
        )
    return ""


def _clear_records(asset_ids: list[int]) -> int:
    """Call these thumbnails missing in the ledger, for the next regeneration to mend."""
    ImageAsset.objects.write_down(
        Change(asset_id=asset_id, outcome=Outcome.PURGED, record=NO_THUMBNAIL)
        for asset_id in asset_ids
    )
    return len(asset_ids)


def lost_files(assets: ImageAssetQuerySet) -> Iterator[int]:
    """The ids whose thumbnail the ledger calls fresh while its file is gone or cut short."""
    rows = assets.fresh().order_by("pk").values_list("pk", "thumbnail_path", "thumbnail_bytes")
    for asset_id, path, size_bytes in rows.iterator(chunk_size=10_000):
        if cache.size_bytes(path) != size_bytes:
            yield asset_id


def note_lost_files(assets: ImageAssetQuerySet) -> int:
    """Call missing in the ledger what is missing in the cache; gives how many there were."""
    lost = lost_files(assets)
    noted = 0
    while batch := list(islice(lost, BATCH)):
        noted += _clear_records(batch)
    return noted

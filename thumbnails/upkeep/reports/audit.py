"""Comparing the database with the cache.

Files are listed before the database is queried: in the other order a file made in between would
seem to be an orphan.
"""

import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from django.utils import timezone

from thumbnails import conf
from thumbnails.batching import batched
from thumbnails.exceptions import StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, Run
from thumbnails.models.recipes import UNSTAMPED
from thumbnails.models.results import Result, save_results
from thumbnails.rendering import THUMBNAIL, Spool, Stamped, is_whole, look_at
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.names import SHARDS, name_for
from thumbnails.storage.thumbnails import CachedFile, Kind
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.images.adoption import adopted, cached_variants
from thumbnails.upkeep.images.freshness import has_variants, own_suffixes
from thumbnails.upkeep.images.lost_files import as_missing
from thumbnails.upkeep.images.rescan import Rescan, record_gone, rescan
from thumbnails.upkeep.reports.cache_files import keep_files_seen

BATCH = 1000
SHARE_AT_MOST = 0.1
"""Of the files, or of the records: to lose more suggests a lost database or a lost mount."""
GRACE = timedelta(seconds=60)
"""During a run a file younger than this may be ahead of the database."""
TEMPORARY_SECONDS = 2.0
"""An older temporary file has lost its writer: writing takes milliseconds."""
EXAMPLES = 20


class Finding(StrEnum):
    """What can be wrong with a file or a row."""

    ORPHAN = "orphan"
    """A thumbnail without an asset, or a variant that is not recorded."""
    MISSING = "missing"
    """Recorded in the database, but not in the cache."""
    DAMAGED = "damaged"
    """Empty, cut short, or (deep) not decodable."""
    UNSTAMPED = "unstamped"
    """A whole image that the site did not make, in a thumbnail's place, and not recorded as such.
    Never deleted: it may be the only copy."""
    MISMATCHED = "mismatched"
    """Its stamp differs from the record, as after restoring a backup."""
    UNRECORDED = "unrecorded"
    """The asset has no thumbnail in the database; the next render records it."""
    LEFTOVER = "leftover"
    """A temporary file whose writer died."""
    FOREIGN = "foreign"
    """Not the site's: reported, never touched."""
    CHANGED = "changed"
    """The original has changed since it was imported."""
    GONE = "gone"
    """The original is gone."""


HARMLESS = {Finding.FOREIGN, Finding.UNRECORDED, Finding.UNSTAMPED}
DELETED = {Finding.ORPHAN, Finding.DAMAGED}
CLEARED = {Finding.MISSING, Finding.MISMATCHED}


@dataclass(slots=True, kw_only=True)
class Report:
    """What an audit found and fixed."""

    files: int = 0
    """Number of thumbnails and variants in the cache."""
    found: dict[Finding, int] = field(default_factory=lambda: dict.fromkeys(Finding, 0))
    examples: dict[Finding, list[str]] = field(default_factory=lambda: {f: [] for f in Finding})
    """Up to EXAMPLES names of each."""
    fixed: int = 0
    """Number of fixed findings: files deleted, records cleared to be regenerated."""
    adopted: int = 0
    """Number of images whose record is now that of the file which another program made."""
    refusal: str = ""
    """Why nothing was fixed although requested, or which originals were not."""
    errors: list[str] = field(default_factory=list)
    """Errors of the storages. With any of the cache, nothing is fixed."""

    @property
    def is_clean(self) -> bool:
        """Whether no problems remain."""
        wrong = sum(n for finding, n in self.found.items() if finding not in HARMLESS)
        return not self.errors and not self.refusal and wrong <= self.fixed

    def note(self, finding: Finding, name: str) -> None:
        self.found[finding] += 1
        if len(self.examples[finding]) < EXAMPLES:
            self.examples[finding].append(name)


def audit(
    *,
    fix: bool = False,
    adopt: bool = False,
    deep: bool = False,
    with_originals: bool = False,
    allow_share: float = SHARE_AT_MOST,
    on_shard: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check every file and every row, shard by shard: memory does not grow with the cache.

    `deep` decodes every file, `with_originals` checks every original's size and time. `fix`
    deletes orphans, leftovers and damaged files, clears the records of missing, damaged and
    mismatched ones, and records originals that changed or are gone. It does nothing if the
    database has no images, if more than `allow_share` of the files or of the records would go, or
    if the cache failed. No original is recorded as gone in a root that failed, or where more than
    `allow_share` are gone. `adopt` records whole pictures that another program made as the images'
    thumbnails and variants, to be served until they are rendered: they are stale, made by the
    recipe UNSTAMPED. What it records is not among the findings to be fixed.
    `on_shard` gets the number of shards done.
    """
    this = _Audit(adopt=adopt, deep=deep)
    for done, shard in enumerate(SHARDS, start=1):
        this.look_at_shard(shard)
        on_shard(done)
    this.look_at_rows()
    this.look_beside_shards()
    this.look_at_leftovers()
    if with_originals:
        this.look_at_originals()
    if fix:
        this.fix(allow_share)
    if not this.report.errors:
        is_mended = fix and not this.report.refusal
        keep_files_seen(0 if is_mended else this.report.found[Finding.MISSING])
    this.report.errors += this.originals.errors
    return this.report


def check(asset: ImageAsset) -> Finding | None:
    """Returns how the files of one asset differ from what is recorded; None if they do not.

    Reads the thumbnail's stamp, and the sizes of the variants. Raises StorageFailure.
    """
    looked = _look_at(asset.thumbnail_name, deep=False)
    if looked is None:
        return Finding.MISSING if asset.thumbnail_path else None
    finding = _judge(looked, asset)
    if finding is None and not has_variants(asset.pk, asset.thumbnail_variants):
        return Finding.MISSING
    return finding


class _Audit:
    def __init__(self, *, adopt: bool, deep: bool) -> None:
        self.report = Report()
        self._adopts = adopt
        self._deep = deep
        self._run_under_way = Run.objects.running().exists()
        self._temporary: list[CachedFile] = []
        self._leftovers: list[CachedFile] = []
        # Ids of eight bytes each: there may be many millions.
        self._to_delete: dict[str, array[int]] = defaultdict(lambda: array("q"))
        """By suffix."""
        self._to_clear = array("q")
        """Once for each finding."""
        self._records = 0
        self.originals = Rescan()

    # --- checking -----------------------------------------------------------------------------

    def look_at_shard(self, shard: str) -> None:
        try:
            files = list(cache.survey(shard))
            self._compare_with_rows([file for file in files if file.asset_id])
        except (StorageFailure, ThumbnailError) as error:
            self.report.errors.append(str(error))
            return
        for file in files:
            if file.kind == Kind.FOREIGN:
                self.report.note(Finding.FOREIGN, file.name)
        self._temporary += [file for file in files if file.kind == Kind.TEMPORARY]

    def _compare_with_rows(self, files: list[CachedFile]) -> None:
        self.report.files += len(files)
        looked = {
            file.name: _look_at(file.name, deep=self._deep)
            for file in files
            if file.kind == Kind.THUMBNAIL
        }
        assets = _assets_of({file.asset_id for file in files})
        thumbnails = [file for file in files if file.kind == Kind.THUMBNAIL]
        variants = [file for file in files if file.kind == Kind.VARIANT]
        for file in thumbnails:
            self._note(_judge(looked[file.name], assets.get(file.asset_id)), file)
        if self._adopts:
            assets |= self._adopt(_adoptable(files, looked, assets))
        for file in variants:
            self._note(_judge_variant(file, assets.get(file.asset_id), deep=self._deep), file)

    def _note(self, finding: Finding | None, file: CachedFile) -> None:
        if finding is None or self._may_be_ahead(finding, file):
            return
        self.report.note(finding, file.name)
        if finding in DELETED:
            self._to_delete[file.suffix].append(file.asset_id)
        elif finding in CLEARED:
            self._to_clear.append(file.asset_id)

    def _adopt(self, asset_ids: Iterable[int]) -> dict[int, ImageAsset]:
        """Record these assets' files as they are now. What is rendered meanwhile stays so.

        Returns the assets as they are then. Raises StorageFailure.
        """
        found: dict[int, ImageAsset] = {}
        for part in batched(asset_ids, BATCH):
            assets = ImageAsset.objects.filter(pk__in=part)
            looked = [_adopted(asset, deep=self._deep) for asset in assets]
            results = [result for result in looked if result is not None]
            self.report.adopted += len(results) - len(save_results(results))
            found |= _assets_of(part)
        return found

    def _may_be_ahead(self, finding: Finding, file: CachedFile) -> bool:
        """Whether a run has written the file, and will soon save that."""
        is_of_other_render = finding == Finding.MISMATCHED or (
            finding == Finding.ORPHAN and file.kind == Kind.VARIANT
        )
        return is_of_other_render and self._run_under_way and _is_young(file)

    def look_at_rows(self) -> None:
        """Find recorded thumbnails and variants that are not in the cache."""
        columns = ("pk", "thumbnail_path", "thumbnail_variants")
        rows = ImageAsset.objects.exclude(thumbnail_path="").order_by("pk").values_list(*columns)
        for asset_id, path, variants in rows.iterator(chunk_size=10_000):
            self._records += 1
            for name in (path, *(name_for(asset_id, suffix) for suffix in variants)):
                try:
                    if cache.size_bytes(name) is not None:
                        continue
                except StorageFailure as error:
                    self.report.errors.append(str(error))
                    return
                self.report.note(Finding.MISSING, name)
                self._to_clear.append(asset_id)

    def look_beside_shards(self) -> None:
        try:
            for file in cache.foreign_beside_shards():
                self.report.note(Finding.FOREIGN, file.name)
        except StorageFailure as error:
            self.report.errors.append(str(error))

    def look_at_leftovers(self) -> None:
        """Find temporary files that remain for TEMPORARY_SECONDS: they have no writer."""
        if not self._temporary:
            return
        time.sleep(TEMPORARY_SECONDS)
        for file in self._temporary:
            if cache.size_bytes(file.name) is not None:
                self.report.note(Finding.LEFTOVER, file.name)
                self._leftovers.append(file)

    def look_at_originals(self) -> None:
        self.originals = rescan(ImageAsset.objects.all(), save=False)
        for finding, ids in (
            (Finding.CHANGED, self.originals.changed),
            (Finding.GONE, self.originals.gone),
        ):
            for asset_id in ids:
                self.report.note(finding, f"image {asset_id}")

    # --- fixing -------------------------------------------------------------------------------

    def fix(self, allow_share: float) -> None:
        self.report.refusal = self._refusal(allow_share)
        if self.report.refusal:
            return
        for suffix, ids in self._to_delete.items():
            for asset_id in ids:
                self._delete(asset_id, suffix)
        for file in self._leftovers:
            cache.delete(file.name)
            self.report.fixed += 1
        for part in batched(self._to_clear, BATCH):
            self._clear(part)
        for part in batched(self.originals.changed, BATCH):
            rescan(ImageAsset.objects.filter(pk__in=part), save=True)
        gone = record_gone(self.originals, allow_share=allow_share)
        self.report.fixed += len(self.originals.changed) + gone
        self.report.refusal = " ".join(self.originals.problems(allow_share).values())

    def _refusal(self, allow_share: float) -> str:
        """Why not to fix anything; empty if it is safe."""
        if self.report.errors:
            return "Nothing was deleted: part of the cache could not be read."
        if not ImageAsset.objects.exists():
            return "Nothing was deleted: the database has no images at all. Is it the right one?"
        deleted, files = sum(map(len, self._to_delete.values())), self.report.files
        if deleted > allow_share * files:
            share = _share_option(deleted, files)
            return f"Nothing was deleted: {deleted:,} of {files:,} files would go. {share}"
        cleared = len(set(self._to_clear))
        if cleared > allow_share * self._records:
            share = _share_option(cleared, self._records)
            return (
                f"Nothing was cleared: {cleared:,} of {self._records:,} thumbnails that the "
                f"database has are missing or do not match. Is a disk not mounted? {share}"
            )
        return ""

    def _delete(self, asset_id: int, suffix: str) -> None:
        """Delete the file if it still has to be: it is checked again under its lock."""
        try:
            with render_lock(asset_id, patience_seconds=conf.current().render_seconds) as alone:
                asset = ImageAsset.objects.filter(pk=asset_id).first()
                if not alone or self._judge_again(asset_id, suffix, asset) not in DELETED:
                    return
                cache.delete(name_for(asset_id, suffix))
                if asset is not None and suffix in {THUMBNAIL, *asset.thumbnail_variants}:
                    save_results([as_missing(asset)])
        except ThumbnailError as error:
            self.report.errors.append(str(error))
        else:
            self.report.fixed += 1

    def _judge_again(self, asset_id: int, suffix: str, asset: ImageAsset | None) -> Finding | None:
        name = name_for(asset_id, suffix)
        if suffix == THUMBNAIL:
            return _judge(_look_at(name, deep=self._deep), asset)
        size_bytes = cache.size_bytes(name)
        if size_bytes is None:
            return None
        file = CachedFile(name, Kind.VARIANT, asset_id, suffix, size_bytes)
        return _judge_variant(file, asset, deep=self._deep)

    def _clear(self, ids: list[int]) -> None:
        """Check the files again, and clear the records of those still missing or mismatched."""
        results = []
        mended = set()
        for asset in ImageAsset.objects.filter(pk__in=ids):
            if not asset.thumbnail_path:  # cleared for another of its files
                mended.add(asset.pk)
            elif _has_to_be_cleared(asset):
                results.append(as_missing(asset))
        mended |= {result.asset_id for result in results} - set(save_results(results))
        self.report.fixed += sum(1 for asset_id in ids if asset_id in mended)


def _has_to_be_cleared(asset: ImageAsset) -> bool:
    looked = _look_at(asset.thumbnail_path, deep=False)
    if looked is None or _judge(looked, asset) in CLEARED:
        return True
    return not has_variants(asset.pk, asset.thumbnail_variants)


def _share_option(part: int, whole: int) -> str:
    return f"If that is right: --allow-share {min(1.0, part / max(whole, 1) + 0.01):.2f}"


def _look_at(name: str, *, deep: bool) -> Stamped | None:
    """Returns None for a missing file. Raises StorageFailure, and Crashed if `deep`."""
    content = cache.read(name)
    if content is None:
        return None
    looked = look_at(content)
    if deep and looked.is_whole and not _can_be_decoded(content, name):
        return Stamped(looked.fingerprint, is_whole=False)
    return looked


def _can_be_decoded(content: bytes, name: str) -> bool:
    with Spool.of(content) as spool:
        return pools.worker_pool(large=False).is_whole(
            spool, name=name, max_pixels=conf.current().max_pixels
        )


def _assets_of(asset_ids: Iterable[int]) -> dict[int, ImageAsset]:
    """These assets by id, queried in batches: a shard may have many."""
    found: dict[int, ImageAsset] = {}
    columns = ("thumbnail_path", "thumbnail_recipe", "thumbnail_source", "thumbnail_variants")
    for part in batched(asset_ids, BATCH):
        found |= ImageAsset.objects.only(*columns).in_bulk(part)
    return found


def _judge(looked: Stamped | None, asset: ImageAsset | None) -> Finding | None:
    if looked is None:  # gone since it was listed: `look_at_rows` finds it if it is recorded
        return None
    if asset is None:
        return Finding.ORPHAN
    if not looked.is_whole:
        return Finding.DAMAGED
    if looked.fingerprint is None:
        return None if asset.thumbnail_recipe == UNSTAMPED else Finding.UNSTAMPED
    if not asset.thumbnail_path:
        return Finding.UNRECORDED
    return None if looked.fingerprint == asset.recorded_fingerprint else Finding.MISMATCHED


def _judge_variant(file: CachedFile, asset: ImageAsset | None, *, deep: bool) -> Finding | None:
    if asset is None:
        return Finding.ORPHAN
    if file.suffix not in asset.thumbnail_variants:
        is_expected = not asset.thumbnail_path and file.suffix in own_suffixes()
        return Finding.UNRECORDED if is_expected else Finding.ORPHAN
    has_its_size = file.size_bytes == asset.thumbnail_variants[file.suffix][-1]
    if has_its_size and not deep:
        return None
    content = cache.read(file.name)
    if content is None:  # gone since it was listed
        return None
    if not is_whole(content, file.suffix) or (deep and not _can_be_decoded(content, file.name)):
        return Finding.DAMAGED
    return None if has_its_size else Finding.MISMATCHED


def _adoptable(
    files: Iterable[CachedFile], looked: Mapping[str, Stamped | None], assets: dict[int, ImageAsset]
) -> set[int]:
    """Ids of the assets with an unstamped thumbnail, or with variants beside one that was adopted
    without them."""
    found = set()
    for file in files:
        asset = assets.get(file.asset_id)
        if file.kind == Kind.THUMBNAIL:
            is_new = _judge(looked[file.name], asset) == Finding.UNSTAMPED
        else:
            is_new = (
                asset is not None
                and asset.thumbnail_recipe == UNSTAMPED
                and file.suffix in own_suffixes() - asset.thumbnail_variants.keys()
            )
        if is_new:
            found.add(file.asset_id)
    return found


def _adopted(asset: ImageAsset, *, deep: bool) -> Result | None:
    """The result that records the files as they are; None if they are recorded so already, or are
    not to be adopted any more."""
    found = cache.load(asset.thumbnail_name)
    if found is None or not found.is_whole or found.stamp is not None:
        return None
    variants = cached_variants(asset, deep=deep)
    if asset.thumbnail_recipe == UNSTAMPED and asset.thumbnail_variants == variants:
        return None
    return adopted(asset, found, variants)


def _is_young(file: CachedFile) -> bool:
    modified = cache.modified_at(file.name)
    return modified is not None and timezone.now() - modified < GRACE

"""When the files of the cache were last looked at, and how many were lost.

States follow from the database, and it does not learn of files that are deleted by hand. Looking at
a million files takes too long for a page and, in object storage, for a worker: there the audit
does.
"""

from dataclasses import dataclass
from datetime import datetime

from django.core.files.storage import FileSystemStorage
from django.utils import timezone

from thumbnails.exceptions import StorageFailure
from thumbnails.models import CachedCount, ImageAsset
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images.lost_files import lost_files
from thumbnails.upkeep.reports.counts import OLD_AT_ONCE

NAME = "files"
"""Of the row among the cached counts; it is counted here alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSeen:
    """What a look at all files of the cache found."""

    at: datetime
    lost: int
    """Number of thumbnails that the database has as fresh and of which a file is missing or cut
    short."""
    is_current: bool
    """Whether that was just now."""


def files_seen(*, is_small: bool) -> FilesSeen | None:
    """Returns what the last look found; None if there was none, or the cache cannot be read.

    Where the site `is_small` and its cache is on disk it looks itself, at most once in OLD_AT_ONCE.
    """
    kept = CachedCount.objects.filter(name=NAME).first()
    is_current = is_small and isinstance(cache.storage(), FileSystemStorage)
    if is_current and (kept is None or kept.age > OLD_AT_ONCE):
        try:
            kept = keep_files_seen(sum(1 for _ in lost_files(ImageAsset.objects.all())))
        except StorageFailure:
            return None
    if kept is None:
        return None
    return FilesSeen(at=kept.counted_at, lost=kept.value["lost"], is_current=is_current)


def keep_files_seen(lost: int) -> CachedCount:
    """Record that all files were looked at now, and how many were lost."""
    values = {"value": {"lost": lost}, "counted_at": timezone.now(), "took_seconds": 0}
    kept, _ = CachedCount.objects.update_or_create(name=NAME, defaults=values)
    return kept

"""Changes of thumbnails, and telling other apps of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from django.db import transaction

from thumbnails.batching import batched
from thumbnails.models.addresses import public_path
from thumbnails.models.assets import ImageAsset
from thumbnails.rendering import THUMBNAIL
from thumbnails.signals import Change, thumbnails_changed
from thumbnails.storage.names import name_for

RECORDED = {"thumbnail_path", "thumbnail_recipe", "thumbnail_source", "thumbnail_variants"}
BATCH = 1000
"""Assets of which one signal tells at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """An asset whose thumbnail has changed."""

    asset_id: int
    change: Change
    before: str | None
    """Fingerprint of the thumbnail that was recorded; None if there was none."""
    after: str | None = None
    """That of the one that is recorded now."""
    variants: tuple[str, ...] = ()
    """Suffixes of the variants that were recorded or are now; they may repeat."""

    @classmethod
    def deleted(cls, asset: ImageAsset) -> Self:
        """A deleted asset, as it was loaded."""
        # What was not, as after `only`, is gone with the row.
        is_known = not RECORDED & asset.get_deferred_fields()
        return cls(
            asset_id=asset.pk,
            change=Change.DELETED,
            before=asset.recorded_fingerprint if is_known else None,
            variants=tuple(asset.thumbnail_variants) if is_known else (),
        )


def tell_on_commit(
    changed: Iterable[Changed], *, run_id: int | None = None, using: str | None = None
) -> None:
    """Send `thumbnails_changed` after the commit, or now if there is no transaction.

    Nothing is sent if the transaction is rolled back. Raises nothing.
    """
    if not thumbnails_changed.has_listeners(ImageAsset):
        return
    batch = sorted(changed, key=lambda each: each.asset_id)

    def tell() -> None:  # Django logs the name of a callback that fails, and a partial has none
        _tell(batch, run_id)

    if batch:
        transaction.on_commit(tell, using=using, robust=True)


def _tell(changed: Sequence[Changed], run_id: int | None) -> None:
    for change in Change:
        some = [each for each in changed if each.change == change]
        for batch in batched(some, BATCH):
            thumbnails_changed.send_robust(
                ImageAsset,
                asset_ids=[each.asset_id for each in batch],
                urls=list(_urls(batch)),
                change=change,
                run=run_id,
            )


def _urls(changed: Iterable[Changed]) -> Iterator[str]:
    for each in changed:
        # The new one, too: after a rollback it is an old one again, under which a web server that
        # does not know stamps may have sent what was there meanwhile.
        fingerprints = dict.fromkeys(filter(None, (each.before, each.after)))
        for suffix in dict.fromkeys((THUMBNAIL, *each.variants)):
            url = public_path(name_for(each.asset_id, suffix))
            yield url
            yield from (f"{url}?v={fingerprint}" for fingerprint in fingerprints)

"""Results of work on assets, and saving them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from thumbnails.exceptions import Reason
from thumbnails.models.assets import ImageAsset, Outcome
from thumbnails.models.changes import Changed, tell_on_commit
from thumbnails.models.recipes import UNSTAMPED
from thumbnails.rendering import Facts, fingerprint_of
from thumbnails.signals import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The columns of an asset's thumbnail, which change together."""

    thumbnail_path: str = ""
    thumbnail_width: int | None = None
    thumbnail_height: int | None = None
    thumbnail_bytes: int | None = None
    thumbnail_generated_at: datetime | None = None
    thumbnail_recipe: str = ""
    thumbnail_source: str = ""
    thumbnail_variants: dict[str, list[int]] = field(default_factory=dict)
    thumbnail_hash: str = ""

    @property
    def fingerprint(self) -> str | None:
        """Identifies the thumbnail; None if there is none."""
        if not self.thumbnail_path:
            return None
        return fingerprint_of(self.thumbnail_recipe, self.thumbnail_source)


NO_THUMBNAIL = Record()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the last attempt failed, and with which recipe and original. The thumbnail is kept.

    `accepted_source` is to be carried over from the asset, until it is rendered.
    """

    thumbnail_error: str = ""
    thumbnail_error_detail: str = ""
    thumbnail_error_recipe: str = ""
    thumbnail_error_source: str = ""
    accepted_source: str | None = None


NO_FAILURE = Failure()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An asset's row as it was when the work on it began."""

    original: str
    source_version: str
    revision: int
    recorded: str | None = field(default=None, compare=False)
    """Fingerprint of the recorded thumbnail; None if there is none."""
    variants: tuple[str, ...] = field(default=(), compare=False)
    """Suffixes of the recorded variants."""

    @classmethod
    def of(cls, asset: ImageAsset) -> Self:
        """The row as loaded."""
        return cls(
            original=str(asset.original.name),
            source_version=asset.source_version,
            revision=asset.thumbnail_revision,
            recorded=asset.recorded_fingerprint,
            variants=tuple(asset.thumbnail_variants),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one attempt at an asset's thumbnail, to be saved."""

    asset_id: int
    outcome: Outcome
    reason: Reason | None = None
    """Why it failed; None if it did not."""
    read: Read | None = None
    """The row it is based on: void if that has changed. None if there is nothing to save."""
    record: Record | None = None
    """The new record; None keeps the old one."""
    failure: Failure | None = None
    """The new failure, or NO_FAILURE; None keeps the old one."""
    facts: Facts | None = None
    """The facts of the original if it has changed."""
    note: str | None = None
    """What rendering noted of the original, a Note or empty; None keeps the old one."""
    source_version: str | None = None
    """The version of the original if it has changed."""
    history: list[dict[str, Any]] | None = None
    """The new history; None keeps the old one."""
    content: bytes | None = None
    """The rendered thumbnail."""
    variants: dict[str, bytes] = field(default_factory=dict)
    """The rendered variants, by suffix."""
    is_stored: bool = True
    """False if the thumbnail is not in the cache: it can only be sent in this response."""
    before: str | None = None
    """Fingerprint of the recorded thumbnail before the attempt, for a run's report; None if there
    was none."""
    after: str | None = None


def save_results(results: Iterable[Result], *, run_id: int | None = None) -> list[int]:
    """Save the results, in one transaction and one statement per set of columns.

    After the commit `thumbnails_changed` tells of them, with `run_id`.

    Returns the ids of void results, which are not saved: since the work on the asset began it
    was deleted, got another original or another version of it, or was written by another process.

    Django's bulk_update builds a CASE per row and column and costs more than rendering a small
    image; an executemany with a prepared UPDATE costs a tenth.
    """
    # In order of ids, so that concurrent writers lock rows in the same order.
    wanted = sorted((r for r in results if r.read is not None), key=lambda r: r.asset_id)
    if not wanted:
        return []
    connection = connections[router.db_for_write(ImageAsset)]
    with transaction.atomic(using=connection.alias):
        now = ImageAsset.objects.using(connection.alias).select_for_update().order_by("pk")
        rows = now.filter(pk__in=[result.asset_id for result in wanted])
        columns = ("pk", "original", "source_version", "thumbnail_revision")
        found = {
            pk: Read(original=original, source_version=version, revision=revision)
            for pk, original, version, revision in rows.values_list(*columns)
        }
        valid = [result for result in wanted if found.get(result.asset_id) == result.read]
        _update(connection, valid)
        tell_on_commit(changes_of(valid), run_id=run_id, using=connection.alias)
    saved = {result.asset_id for result in valid}
    return [result.asset_id for result in wanted if result.asset_id not in saved]


def changes_of(results: Iterable[Result]) -> Iterator[Changed]:
    """Yields what the results, once they are saved, change of thumbnails."""
    for result in results:
        if result.read is not None and result.record is not None:
            yield Changed(
                asset_id=result.asset_id,
                change=_change_to(result.record),
                before=result.read.recorded,
                after=result.record.fingerprint,
                variants=(*result.read.variants, *result.record.thumbnail_variants),
            )


def _change_to(record: Record) -> Change:
    if not record.thumbnail_path:
        return Change.PURGED
    return Change.ADOPTED if record.thumbnail_recipe == UNSTAMPED else Change.RENDERED


def _update(connection: BaseDatabaseWrapper, results: Iterable[Result]) -> None:
    concrete = {field.name: field for field in ImageAsset._meta.concrete_fields}
    rows_by_columns: dict[tuple[str, ...], list[list[Any]]] = {}
    for result in results:
        values = _columns(result)
        prepared = [concrete[name].get_db_prep_save(v, connection) for name, v in values.items()]
        rows_by_columns.setdefault(tuple(values), []).append([*prepared, result.asset_id])
    for columns, rows in rows_by_columns.items():
        assignments = "".join(f'"{concrete[name].column}" = %s, ' for name in columns)
        with connection.cursor() as cursor:
            cursor.executemany(
                f'UPDATE "{ImageAsset._meta.db_table}" SET {assignments}'  # noqa: S608  names from the model, values as parameters
                '"thumbnail_revision" = "thumbnail_revision" + 1 WHERE "id" = %s',
                rows,
            )


def _columns(result: Result) -> dict[str, Any]:
    """The columns that a result changes."""
    columns: dict[str, Any] = {}
    for part in (result.record, result.failure, result.facts):
        if part is not None:
            columns |= {field.name: getattr(part, field.name) for field in fields(part)}
    if result.note is not None:
        columns["note"] = result.note
    if result.history is not None:
        columns["thumbnail_history"] = result.history
    if result.source_version is not None:
        columns["source_version"] = result.source_version
    return columns

"""Results of work on assets, and how they are saved."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from thumbnails.exceptions import Reason
from thumbnails.models.assets import ImageAsset, Outcome
from thumbnails.rendering import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the database says of an asset's thumbnail, whole: the columns that change together."""

    thumbnail_path: str = ""
    thumbnail_width: int | None = None
    thumbnail_height: int | None = None
    thumbnail_bytes: int | None = None
    thumbnail_generated_at: datetime | None = None
    thumbnail_recipe: str = ""
    thumbnail_source: str = ""


NO_THUMBNAIL = Record()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the last try failed, and for which recipe and original. The thumbnail stays."""

    thumbnail_error: str = ""
    thumbnail_error_detail: str = ""
    thumbnail_error_recipe: str = ""
    thumbnail_error_source: str = ""


NO_FAILURE = Failure()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A row as it was when the work on its asset began; it may have changed since."""

    original: str
    source_version: str
    revision: int

    @classmethod
    def of(cls, asset: ImageAsset) -> Self:
        """The row as it was when the asset was loaded."""
        return cls(
            original=str(asset.original.name),
            source_version=asset.source_version,
            revision=asset.thumbnail_revision,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one try at an asset's thumbnail, to be saved."""

    asset_id: int
    outcome: Outcome
    reason: Reason | None = None
    """Why it failed; None where it did not."""
    read: Read | None = None
    """The row that it is of: the result is void where that has changed since. None where there
    is nothing to save."""
    record: Record | None = None
    """The new record; None leaves it as it is."""
    failure: Failure | None = None
    """The new failure, or none any more; None leaves it as it is."""
    facts: Facts | None = None
    """What the original's header says now, where the original has changed."""
    source_version: str | None = None
    """The original's version now, where it has changed."""
    history: list[dict[str, Any]] | None = None
    """The asset's history with this in it; None leaves it as it is."""
    content: bytes | None = None
    """The thumbnail that was rendered."""
    is_stored: bool = True
    """False: the cache did not take it, so it is good for this one answer."""


def save_results(results: Iterable[Result]) -> list[int]:
    """Save the results, in one transaction and one statement per kind.

    Returns the ids of those that are void and were not saved: the asset was deleted, got
    another original or another version of it, or was written by another process, since
    the work on it began.

    Django's own bulk_update grows a CASE per row and column and costs more than rendering a
    small picture; an executemany over a prepared UPDATE costs a tenth.
    """
    # In the order of ids, so that two writers lock rows in the same order.
    wanted = sorted((r for r in results if r.read is not None), key=lambda r: r.asset_id)
    if not wanted:
        return []
    connection = connections[router.db_for_write(ImageAsset)]
    with transaction.atomic(using=connection.alias):
        now = ImageAsset.objects.using(connection.alias).select_for_update().order_by("pk")
        rows = now.filter(pk__in=[result.asset_id for result in wanted]).values_list(
            "pk", "original", "source_version", "thumbnail_revision"
        )
        found = {
            pk: Read(original=original, source_version=version, revision=revision)
            for pk, original, version, revision in rows
        }
        valid = [result for result in wanted if found.get(result.asset_id) == result.read]
        _update(connection, valid)
    saved = {result.asset_id for result in valid}
    return [result.asset_id for result in wanted if result.asset_id not in saved]


def _update(connection: BaseDatabaseWrapper, results: Iterable[Result]) -> None:
    rows_by_columns: dict[tuple[str, ...], list[list[Any]]] = {}
    for result in results:
        values = _columns(result)
        rows_by_columns.setdefault(tuple(values), []).append([*values.values(), result.asset_id])
    concrete = {field.name: field for field in ImageAsset._meta.concrete_fields}
    for columns, rows in rows_by_columns.items():
        set_fields = [concrete[column] for column in columns]
        assignments = "".join(f'"{field.column}" = %s, ' for field in set_fields)
        with connection.cursor() as cursor:
            cursor.executemany(
                f'UPDATE "{ImageAsset._meta.db_table}" SET {assignments}'  # noqa: S608  names from the model, values as parameters
                '"thumbnail_revision" = "thumbnail_revision" + 1 WHERE "id" = %s',
                [
                    [
                        field.get_db_prep_save(value, connection)
                        for field, value in zip(set_fields, row, strict=False)
                    ]
                    + row[len(set_fields) :]
                    for row in rows
                ],
            )


def _columns(result: Result) -> dict[str, Any]:
    """The columns that a result changes."""
    columns: dict[str, Any] = {}
    for part in (result.record, result.failure, result.facts):
        if part is not None:
            columns |= _as_dict(part)
    if result.history is not None:
        columns["thumbnail_history"] = result.history
    if result.source_version is not None:
        columns["source_version"] = result.source_version
    return columns


def _as_dict(value: Record | Failure | Facts) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}

"""A run's report: what became of each of its images, and how things stand with them now.

It follows from the run's chunks, whose entries stay as they were saved, and from the images' rows
of now. It is read a few chunks at a time: memory does not grow with the run.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import Q

from thumbnails.batching import batched
from thumbnails.exceptions import Reason, StorageFailure, UsageError
from thumbnails.models import Chunk, ImageAsset, Outcome, Run, State
from thumbnails.models.outcomes import Entry, unpack
from thumbnails.models.runs import Progress
from thumbnails.rendering import fingerprint_of
from thumbnails.upkeep.reports import audit

CHUNKS_AT_ONCE, CHUNKS_OF_PAGE = 25, 4
ROWS_AT_ONCE, COMPARED_AT_ONCE = 500, 5_000
COMPARED_AT_MOST = 10_000
"""Of a larger run a page compares images with now only if it is asked to: of a million it takes
some ten seconds."""

OPEN = "open"
"""Stands for the outcome of an image that is not done."""
UNKNOWN = "unknown"
"""Stands for the outcome of an image that a former release worked on, which counted it only."""
DELETED = "deleted"
"""Stands for the state of an image that the site does not have any more."""
AS_RECORDED = "as recorded"

OUTCOMES = (*Outcome.values, OPEN, UNKNOWN)
COUNTED = frozenset(Outcome.values)

OF_FINGERPRINT = ("thumbnail_recipe", "thumbnail_source")
OF_ASSET = (
    "original",
    "source_version",
    "thumbnail_path",
    *OF_FINGERPRINT,
    "thumbnail_variants",
    "thumbnail_error",
    "thumbnail_error_recipe",
    "thumbnail_error_source",
    "accepted_source",
)
"""Columns of an image that its row of the report needs."""

CURSOR = "([0-9]{1,9})-([0-9]{1,9})"
"""Regular expression of a position as text."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that a spreadsheet may take for a formula (OWASP, CSV injection)."""


class Position(NamedTuple):
    """A cursor: the last image of a page, by its chunk's number and its place there."""

    chunk: int
    place: int

    def __str__(self) -> str:
        return f"{self.chunk}-{self.place}"


BEFORE_ALL = Position(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which of a run's images; empty values do not filter."""

    outcome: str = ""
    """One of OUTCOMES."""
    reason: Reason | None = None
    """Of a failure."""

    @property
    def query(self) -> str:
        """The query of an address, as `filter_of` takes its values."""
        values = {"outcome": self.outcome, "reason": self.reason or ""}
        return urlencode({name: value for name, value in values.items() if value})


ALL = Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """What became of an image, and how it is now."""

    id: int
    name: str
    """Of its original now; empty if it was deleted."""
    outcome: str
    """One of OUTCOMES."""
    reason: str
    """Of a failure, also of an accepted one; else empty."""
    old_fingerprint: str
    """Of the thumbnail recorded before; empty if there was none or it is not known."""
    new_fingerprint: str
    """Of the thumbnail recorded afterwards."""
    url: str
    """Of the thumbnail now; empty if the image was deleted."""
    state: str
    """Now: a State or DELETED."""
    file: str = ""
    """With `verify`: AS_RECORDED, or what is wrong with the image's files."""


COLUMNS = tuple(column.name for column in fields(ReportRow))
"""Of the exports. The last one is left out of those that are not verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a run's images, in the run's order."""

    rows: list[ReportRow]
    next_after: Position | None
    """The cursor of the next page; None if this is the last one."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """How things stand now with the images of a run."""

    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(State.values, 0))
    """Number of images by State; the deleted ones are in none."""
    replaced: int = 0
    """They have another thumbnail now than after the run."""
    purged: int = 0
    """They had a thumbnail after the run, and have none now."""
    deleted: int = 0

    @property
    def fresh(self) -> int:
        return self.states[State.FRESH.value]

    @property
    def others(self) -> dict[str, int]:
        """Numbers in other states, without zeros."""
        fresh = State.FRESH.value
        return {state: number for state, number in self.states.items() if number and state != fresh}

    @property
    def since(self) -> str:
        """What happened to the images since the run: `2 purged, 1 deleted`."""
        happened = {
            "rendered again": self.replaced,
            "purged": self.purged,
            "deleted": self.deleted,
        }
        found = [f"{number:,} {what}" for what, number in happened.items() if number]
        return ", ".join(found) or "no change"


class _Image(NamedTuple):
    """An image of a chunk as the run left it."""

    position: Position
    asset_id: int
    outcome: str
    reason: str
    before: str
    after: str
    is_recorded: bool
    """Whether the fingerprints are known."""


def filter_of(outcome: str, reason: str) -> Filter:
    """Returns the filter of an address. Raises UsageError."""
    if outcome and outcome not in OUTCOMES:
        raise UsageError(f"{outcome!r} is not one of {', '.join(OUTCOMES)}.", about="outcome")
    if reason and reason not in [*Reason]:
        raise UsageError(f"{reason!r} is not one of {', '.join(Reason)}.", about="reason")
    return Filter(outcome=outcome, reason=Reason(reason) if reason else None)


def failures_of(reason: str) -> Filter:
    """Returns the filter of that reason's failures; of all of them if the site does not know it."""
    if reason in [*Reason]:
        return Filter(reason=Reason(reason))
    return Filter(outcome=Outcome.FAILED.value)


def position_of(text: str) -> Position:
    """Returns the position that `str` made that text of; BEFORE_ALL of none. Raises UsageError."""
    match = re.fullmatch(CURSOR, text)
    if text and not match:
        raise UsageError(f"{text!r} is not an image's place in a run, like 12-57.", about="cursor")
    return Position(int(match[1]), int(match[2])) if match else BEFORE_ALL


# --- the record -----------------------------------------------------------------------------------


def _images(
    run: Run,
    wanted: Filter = ALL,
    *,
    after: Position = BEFORE_ALL,
    chunks_at_once: int = CHUNKS_AT_ONCE,
) -> Iterator[_Image]:
    """Yields the run's images after that position."""
    found = _chunks(run, wanted)
    begin, is_last = after.chunk, False
    while not is_last:
        chunks = list(found.filter(number__gte=begin)[:chunks_at_once])
        is_last = len(chunks) < chunks_at_once
        for chunk in chunks:
            for image in _images_in(chunk):
                is_wanted = not wanted.outcome or image.outcome == wanted.outcome
                if is_wanted and wanted.reason in (None, image.reason) and image.position > after:
                    yield image
            begin = chunk.number + 1


def _chunks(run: Run, wanted: Filter) -> Any:
    """Those that have such images."""
    chunks = Chunk.objects.filter(run=run).order_by("number")
    if wanted.outcome in COUNTED:
        chunks = chunks.filter(**{f"{wanted.outcome}__gt": 0})
    elif wanted.outcome == OPEN:
        chunks = chunks.filter(finished_at=None)
    if wanted.reason:
        chunks = chunks.filter(failures__has_key=wanted.reason.value)
    return chunks


def _images_in(chunk: Chunk) -> Iterator[_Image]:
    entries = unpack(bytes(chunk.outcomes))
    reasons = {i: reason for reason, ids in chunk.failures.items() for i in ids}
    others = _outcome_of_others(chunk)
    for place, asset_id in enumerate(chunk.asset_ids):
        entry = entries.get(asset_id)
        reason = reasons.get(asset_id, "")
        if place >= chunk.position:
            outcome, reason, entry = OPEN, "", None
        elif reason:
            outcome = Outcome.FAILED.value
        else:
            outcome = others if entry is None else entry.outcome.value
        yield _image_of(Position(chunk.number, place), asset_id, outcome, reason, entry)


def _image_of(
    position: Position, asset_id: int, outcome: str, reason: str, entry: Entry | None
) -> _Image:
    before, after = ("", "") if entry is None else (entry.before, entry.after)
    return _Image(position, asset_id, outcome, reason, before, after, entry is not None)


def _outcome_of_others(chunk: Chunk) -> str:
    """The outcome of those that a former release did: known if the chunk has only one."""
    counted = [each.value for each in Outcome if each != Outcome.FAILED]
    found = [outcome for outcome in counted if getattr(chunk, outcome)]
    return found[0] if len(found) == 1 else UNKNOWN


# --- the report -----------------------------------------------------------------------------------


def page(run: Run, *, size: int, after: Position = BEFORE_ALL, wanted: Filter = ALL) -> Page:
    """Returns the run's first images that are wanted, or those after that position.

    Every page costs about the same, however many images the run has.
    """
    images = _images(run, wanted, after=after, chunks_at_once=CHUNKS_OF_PAGE)
    found = list(islice(images, size + 1))
    shown = found[:size]
    is_last = len(found) <= size
    return Page(rows=list(_rows(shown)), next_after=None if is_last else shown[-1].position)


def rows(run: Run, *, site: str = "", verify: bool = False) -> Iterator[ReportRow]:
    """Yields all of the run's images.

    `site` is put before the URLs. `verify` compares the files of each with what is recorded.
    """
    for images in batched(_images(run), ROWS_AT_ONCE):
        yield from _rows(images, site=site, verify=verify)


def _rows(images: Iterable[_Image], *, site: str = "", verify: bool = False) -> Iterator[ReportRow]:
    images = list(images)
    found = ImageAsset.objects.only(*OF_ASSET).in_bulk([image.asset_id for image in images])
    for image in images:
        asset = found.get(image.asset_id)
        yield ReportRow(
            id=image.asset_id,
            name="" if asset is None else str(asset),
            outcome=image.outcome,
            reason=image.reason or _reason_accepted(image, asset),
            old_fingerprint=image.before,
            new_fingerprint=image.after,
            url="" if asset is None else f"{site}{asset.thumbnail_url}",
            state=DELETED if asset is None else asset.state.value,
            file=_verified(asset) if verify and asset is not None else "",
        )


def _reason_accepted(image: _Image, asset: ImageAsset | None) -> str:
    """Of an accepted failure, which chunks only count: the reason of now."""
    if asset is None or (image.outcome, asset.state) != (Outcome.ACCEPTED, State.ACCEPTED):
        return ""
    return asset.thumbnail_error


def compare(run: Run) -> Comparison:
    """Returns how things stand now with the run's images."""
    found = Comparison()
    for images in batched(_images(run), COMPARED_AT_ONCE):
        rows = ImageAsset.objects.filter(_among([image.asset_id for image in images])).with_state()
        columns = ("pk", "current_state", "thumbnail_path", *OF_FINGERPRINT)
        now = {
            pk: (state, fingerprint_of(*made_with) if path else "")
            for pk, state, path, *made_with in rows.values_list(*columns)
        }
        for image in images:
            _compare(found, image, now.get(image.asset_id))
    return found


def _among(ids: list[int]) -> Q:
    """The condition of these images, and of a few others where a range costs less than a list."""
    first, last = min(ids), max(ids)
    is_dense = last - first < 2 * len(ids)
    return Q(pk__range=(first, last)) if is_dense else Q(pk__in=ids)


def _compare(found: Comparison, image: _Image, now: tuple[str, str] | None) -> None:
    """`now`: the state, and the fingerprint of the thumbnail, if there is one."""
    if now is None:
        found.deleted += 1
        return
    state, fingerprint = now
    found.states[state] += 1
    if image.outcome in COUNTED and image.is_recorded and fingerprint != image.after:
        if fingerprint:
            found.replaced += 1
        else:
            found.purged += 1


# --- the files ------------------------------------------------------------------------------------


def _verified(asset: ImageAsset) -> str:
    """Whether the image's files are as recorded. Looks again at a current row before it says that
    they are not: a process may just have replaced them."""
    finding = _finding(asset)
    if finding == AS_RECORDED:
        return finding
    now = ImageAsset.objects.only(*OF_ASSET).filter(pk=asset.pk).first()
    return AS_RECORDED if now is None else _finding(now)


def _finding(asset: ImageAsset) -> str:
    try:
        return audit.check(asset) or AS_RECORDED
    except StorageFailure as error:
        return error.reason.value


# --- in words -------------------------------------------------------------------------------------


def sentences(run: Run) -> list[str]:
    """Returns what a run came to and how things stand now, for mails and terminals."""
    because = f": {run.pause_reason}" if run.pause_reason else "."
    return [
        f"{run} ({run.kind}, {run.scope_text}) is {run.state}{because}",
        f"Of {run.total:,} images: {outcomes_text(run.progress())}.",
        comparison_text(compare(run)),
    ]


def outcomes_text(progress: Progress) -> str:
    """Returns the number of each outcome that occurred: `7 rendered, 3 failed (3 unreadable)`."""
    reasons = ", ".join(
        f"{len(ids):,} {reason.replace('_', ' ')}"
        for reason, ids in sorted(progress.failures.items())
    )
    words = [
        f"{number:,} {outcome}{f' ({reasons})' if outcome == Outcome.FAILED and reasons else ''}"
        for outcome, number in progress.outcomes.items()
        if number
    ]
    if left := progress.total - progress.done:
        words.append(f"{left:,} {OPEN}")
    return ", ".join(words) or "nothing to do"


def comparison_text(now: Comparison) -> str:
    """Returns how things stand now: `Now: 9 fresh, 1 stale. Since the run: 1 purged.`"""
    others = "".join(f", {number:,} {state}" for state, number in now.others.items())
    return f"Now: {now.fresh:,} fresh{others}. Since the run: {now.since}."


# --- exports --------------------------------------------------------------------------------------


def as_csv(rows: Iterable[ReportRow], *, verified: bool = False) -> Iterator[str]:
    """Yields the lines of a CSV file (RFC 4180), many at once.

    An apostrophe is put before what a spreadsheet would take for a formula.
    """
    columns = _columns(verified=verified)
    yield _csv([columns])
    for some in batched(rows, ROWS_AT_ONCE):
        yield _csv([_harmless(getattr(row, name)) for name in columns] for row in some)


def _csv(lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def as_json(run: Run, rows: Iterable[ReportRow], *, verified: bool = False) -> Iterator[str]:
    """Yields the parts of a JSON object: the run, its counts, and `images` with the columns of the
    CSV file."""
    head = json.dumps(_head(run, run.progress()), indent=2)
    yield f'{head.removesuffix("}").rstrip()},\n  "images": ['
    columns = _columns(verified=verified)
    separator = "\n"
    for some in batched(rows, ROWS_AT_ONCE):
        images = (json.dumps({name: getattr(row, name) for name in columns}) for row in some)
        yield separator + ",\n".join(f"    {image}" for image in images)
        separator = ",\n"
    now = json.dumps(as_numbers(compare(run)))
    yield f'\n  ],\n  "now": {now}\n}}\n'


def _head(run: Run, progress: Progress) -> dict[str, Any]:
    return {
        "run": run.pk,
        "kind": run.kind,
        "state": run.state,
        "scope": run.scope_text,
        "total": progress.total,
        **progress.outcomes,
        "failures": {reason: len(ids) for reason, ids in progress.failures.items()},
    }


def as_numbers(now: Comparison) -> dict[str, int]:
    """Returns the counts by their names."""
    return {
        **now.states,
        "replaced": now.replaced,
        "purged": now.purged,
        "deleted": now.deleted,
    }


def _columns(*, verified: bool) -> tuple[str, ...]:
    return COLUMNS if verified else COLUMNS[:-1]

"""Rows of another service's table of images, as CSV with a header."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from django.utils import timezone

from thumbnails.exceptions import UsageError
from thumbnails.models import TrainingSession
from thumbnails.upkeep.images.importing import is_text
from thumbnails.upkeep.selection.conditions import FIRST_YEAR, LARGEST_ID_DIGITS, LAST_YEAR

REQUIRED = ("id", "path")
COLUMNS = (*REQUIRED, "created_at", "session_id", "session_name", "thumbnail_path")


class Problem(StrEnum):
    """What is wrong with a row. The first ones refuse it; the rest is told, and it is taken."""

    NOT_UTF8 = "not_utf8"
    COLUMNS = "columns"
    """More or fewer values than the header has."""
    ID = "id"
    DATE = "date"
    SESSION = "session"
    PATH = "path"
    """It cannot be an original's name, or is in none of the folders of originals."""
    NOT_A_FILE = "not_a_file"
    CONFLICT = "conflict"
    """With the database or an earlier row: the id has another path or date, the path another id."""
    ORIGINAL = "original"
    """Without facts: the original is missing or cannot be read."""
    THUMBNAIL = "thumbnail"
    """Without its old thumbnail, which is missing or not a whole JPEG."""

    @property
    def refuses(self) -> bool:
        return self not in (Problem.ORIGINAL, Problem.THUMBNAIL)


class BadRow(Exception):
    """The row is refused; the message is one sentence."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: an image, and if it is in sessions one of these."""

    line: int
    id: int
    path: str
    """Absolute, or an original's name."""
    created_at: datetime | None = None
    session_id: int | None = None
    session_name: str = ""
    thumbnail_path: Path | None = None


def read_rows(file: BinaryIO) -> Iterator[tuple[int, Row | BadRow]]:
    """Yields the line number and the row, or what is wrong with it. In constant memory.

    Raises UsageError for a missing header and for unknown or doubled columns.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = csv.reader(text)
        header = _header(lines)
        while True:
            try:
                values = next(lines, None)
                if values is None:
                    return
                if values:
                    yield lines.line_num, _row(lines.line_num, header, values)
            except csv.Error as error:
                bad = BadRow(Problem.COLUMNS, f"The line is not CSV: {error}.")
                yield lines.line_num, bad
            except BadRow as bad:
                yield lines.line_num, bad
    finally:
        text.detach()  # otherwise it closes the caller's file


def _header(lines: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(lines, [])]
    except csv.Error:
        header = []
    if not set(REQUIRED) <= set(header):
        raise UsageError(
            "The first line must be a header with the columns id and path, in UTF-8 and separated "
            "by commas."
        )
    for name in header:
        if name not in COLUMNS:
            raise UsageError(f"The column {name!r} is not one of {', '.join(COLUMNS)}.")
        if header.count(name) > 1:
            raise UsageError(f"The column {name} is there twice.")
    return header


def _row(line: int, header: list[str], values: list[str]) -> Row:
    if len(values) != len(header):
        raise BadRow(Problem.COLUMNS, f"{len(values)} values, but {len(header)} columns.")
    cells = dict(zip(header, values, strict=True))
    for name, value in cells.items():
        if not is_text(value):
            raise BadRow(Problem.NOT_UTF8, f"The {name} is not valid UTF-8.")
        if "\0" in value:
            raise BadRow(Problem.COLUMNS, f"The {name} has a null character.")
    if not cells["path"]:
        raise BadRow(Problem.PATH, "There is no path.")
    thumbnail = cells.get("thumbnail_path", "")
    return Row(
        line=line,
        id=_id(cells["id"], Problem.ID),
        path=cells["path"],
        created_at=_date(cells.get("created_at", "")),
        session_id=_id(text, Problem.SESSION) if (text := cells.get("session_id", "")) else None,
        session_name=_session_name(cells.get("session_name", "")),
        thumbnail_path=Path(thumbnail) if thumbnail else None,
    )


def _id(text: str, problem: Problem) -> int:
    if re.fullmatch(f"[1-9][0-9]{{0,{LARGEST_ID_DIGITS - 1}}}", text.strip()):
        return int(text)
    raise BadRow(problem, f"{text[:40]!r} is not an id: a whole number from 1.")


def _session_name(text: str) -> str:
    longest = TrainingSession._meta.get_field("name").max_length or 0
    if len(text) > longest:
        raise BadRow(Problem.SESSION, f"A session's name has at most {longest} characters.")
    return text


def _date(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        found = found if found.tzinfo else timezone.make_aware(found)
        if FIRST_YEAR <= found.year <= LAST_YEAR:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadRow(
        Problem.DATE,
        f"{text[:40]!r} is not a date like 2026-01-31 12:00:00+00, from {FIRST_YEAR} to "
        f"{LAST_YEAR}.",
    )

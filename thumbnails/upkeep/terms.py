"""The words in which people select images: options of commands, parameters of the admin's URLs."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import State
from thumbnails.rendering import FORMATS
from thumbnails.storage.names import SHARDS
from thumbnails.upkeep.selection import Selection, as_ranges

LARGEST_ID_DIGITS = 18
FIRST_YEAR, LAST_YEAR = 1900, 2999
"""Of a date; no time zone takes one of these years out of a database's range."""
WORDS_AT_MOST, TEXT_LENGTH = 32, 500
"""Of a search: each word is looked for in every row, and no name is longer."""
RANGES_AT_MOST = 200
"""Of ids: SQLite takes no expression of more than 1,000 parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition of a selection, as text."""

    example: str
    help: str
    parse: Callable[[str], dict[str, Any]]
    """The fields of a Selection that a text stands for. Raises UsageError."""
    write: Callable[[Selection], str | None]
    """The text for a selection; None where it does not restrict this."""


def selection_from(texts: Mapping[str, str]) -> Selection:
    """The selection that these texts mean, by the names of TERMS; empty ones mean nothing.

    Raises UsageError, which names the term.
    """
    values: dict[str, Any] = {}
    for name, term in TERMS.items():
        if text := texts.get(name, "").strip():
            values |= term.parse(text)
    return Selection(**values)


def texts_of(selection: Selection) -> dict[str, str]:
    """The inverse of `selection_from`."""
    texts = {name: term.write(selection) for name, term in TERMS.items()}
    return {name: text for name, text in texts.items() if text is not None}


def as_options(selection: Selection) -> str:
    """The selection as options of a command, to be typed into a shell."""
    return " ".join(f"--{name} {shlex.quote(text)}" for name, text in texts_of(selection).items())


# --- parsing --------------------------------------------------------------------------------------


def check_search(text: str) -> None:
    """Raises UsageError for a search that no name can match or that costs too much."""
    _check_text(text, about="name")
    if len(text.split()) > WORDS_AT_MOST:
        raise UsageError(f"A search takes at most {WORDS_AT_MOST} words.", about="name")


def _check_text(text: str, *, about: str) -> None:
    if len(text) > TEXT_LENGTH:
        raise UsageError(f"A text has at most {TEXT_LENGTH} characters.", about=about)
    if "\0" in text:  # PostgreSQL takes none in a query
        raise UsageError("A text has no null characters.", about=about)


def _name(text: str) -> dict[str, Any]:
    check_search(text)
    return {"name": text}


def _session(text: str) -> dict[str, Any]:
    _check_text(text, about="session")
    return {"session": text}


def day(text: str, *, about: str = "") -> date:
    """The date that a text such as 2026-01-31 names. Raises UsageError."""
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            found = date.fromisoformat(text)
            if FIRST_YEAR <= found.year <= LAST_YEAR:
                return found
    except ValueError:  # 2026-02-30
        pass
    raise UsageError(
        f"A date is written like 2026-01-31, from {FIRST_YEAR} to {LAST_YEAR}.", about=about
    )


def _day(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {field: day(text, about=field)}


def _megapixels(text: str) -> dict[str, Any]:
    number = r"[0-9]{1,6}(?:\.[0-9]{1,3})?"
    match = re.fullmatch(rf"({number})-({number})?", text)
    if match is None:
        raise UsageError(f"{text!r} is no range like 10-50 or 50-.", about="min_megapixels")
    below = None if match[2] is None else float(match[2])
    if below is not None and below <= float(match[1]):
        raise UsageError(f"The range {text} ends before it begins.", about="max_megapixels")
    return {"min_megapixels": float(match[1]), "max_megapixels": below}


def _some_of(
    field: str, allowed: Iterable[str], change: Callable[[str], str] = str
) -> Callable[[str], dict[str, Any]]:
    words = {word: word for word in allowed}

    def parse(text: str) -> dict[str, Any]:
        found = [words.get(change(part.strip())) for part in text.split(",")]
        if None in found:
            raise UsageError(f"{text!r} is none of {', '.join(words)}.", about=field)
        return {field: tuple(dict.fromkeys(found))}

    return parse


def _some_like(
    field: str, pattern: str, change: Callable[[str], str] = str
) -> Callable[[str], dict[str, Any]]:
    def parse(text: str) -> dict[str, Any]:
        parts = [change(part.strip()) for part in text.split(",")]
        if not all(re.fullmatch(pattern, part) for part in parts):
            raise UsageError(f"{text!r} is no such value.", about=field)
        return {field: tuple(dict.fromkeys(parts))}

    return parse


def _ids(text: str) -> dict[str, Any]:
    singles, ranges = _numbers_and_ranges(text, "ids")
    return {"ids": tuple(singles) or None, "id_ranges": tuple(ranges) or None}


def _orientations(text: str) -> dict[str, Any]:
    singles, ranges = _numbers_and_ranges(text, "orientations")
    for first, last in ranges:
        singles += range(first, min(last, 9) + 1)
    if not all(1 <= number <= 8 for number in singles):
        raise UsageError("An EXIF orientation is a number from 1 to 8.", about="orientations")
    return {"orientations": tuple(sorted(set(singles)))}


def _numbers_and_ranges(text: str, field: str) -> tuple[list[int], list[tuple[int, int]]]:
    """'1,2,5-9' as single numbers and ranges."""
    singles: list[int] = []
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        digits = f"[1-9][0-9]{{0,{LARGEST_ID_DIGITS - 1}}}"
        match = re.fullmatch(rf"\s*({digits})(?:-({digits}))?\s*", part)
        if match is None:
            raise UsageError(f"{part!r} is no id or number and no range like 5-9.", about=field)
        first, last = int(match[1]), match[2]
        if last is None:
            singles.append(first)
        elif int(last) < first:
            raise UsageError(f"The range {part.strip()} ends before it begins.", about=field)
        else:
            ranges.append((first, int(last)))
    if len(ranges) > RANGES_AT_MOST:
        raise UsageError(f"Give at most {RANGES_AT_MOST} ranges.", about=field)
    return singles, ranges


def _shard(text: str) -> dict[str, Any]:
    if text not in SHARDS:
        raise UsageError(f"{text!r} is no shard like 0a.", about="shard")
    return {"shard": text}


def days(text: str) -> int:
    """'7d' as a number of days. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,5})d", text)
    if match is None:
        raise UsageError(f"{text!r} is no age in days like 7d.", about="older_than_days")
    return int(match[1])


# --- writing --------------------------------------------------------------------------------------


def _joined(field: str) -> Callable[[Selection], str | None]:
    def write(selection: Selection) -> str | None:
        values = getattr(selection, field)
        return ",".join(map(str, values)) if values else None

    return write


def _plain(field: str, form: str = "{}") -> Callable[[Selection], str | None]:
    def write(selection: Selection) -> str | None:
        value = getattr(selection, field)
        return None if value is None else form.format(value)

    return write


def _megapixels_text(selection: Selection) -> str | None:
    at_least, below = selection.min_megapixels, selection.max_megapixels
    if at_least is None and below is None:
        return None
    return f"{at_least or 0:g}-{'' if below is None else format(below, 'g')}"


def _ids_text(selection: Selection) -> str | None:
    parts = [*map(str, selection.ids or ())]
    parts += [f"{first}-{last}" for first, last in selection.id_ranges or ()]
    return ",".join(parts) or None


TERMS: dict[str, Term] = {
    "ids": Term(
        example="1,2,5-9",
        help="these images; ranges mean those there are",
        parse=_ids,
        write=_ids_text,
    ),
    "name": Term(
        example="WORDS",
        help="images whose original's name has each of these words in it",
        parse=_name,
        write=_plain("name"),
    ),
    "session": Term(
        example="NAME",
        help="images of this training session",
        parse=_session,
        write=_plain("session"),
    ),
    "from-date": Term(
        example="YYYY-MM-DD",
        help="images created on that day or later",
        parse=_day("from_date"),
        write=_plain("from_date"),
    ),
    "to-date": Term(
        example="YYYY-MM-DD",
        help="images created on that day or before",
        parse=_day("to_date"),
        write=_plain("to_date"),
    ),
    "orientation": Term(
        example="2-8",
        help="originals with one of these EXIF orientations",
        parse=_orientations,
        write=lambda selection: as_ranges(selection.orientations or ()) or None,
    ),
    "format": Term(
        example="jpeg",
        help=f"originals in one of these formats: {', '.join(FORMATS)}",
        parse=_some_of("formats", FORMATS, str.upper),
        write=_joined("formats"),
    ),
    "mode": Term(
        example="CMYK",
        help="originals in one of these colour modes, by Pillow's names",
        parse=_some_like("modes", r"[A-Za-z0-9;]{1,8}"),
        write=_joined("modes"),
    ),
    "megapixels": Term(
        example="10-50",
        help="originals with so many million pixels and fewer than the second number; or 50-",
        parse=_megapixels,
        write=_megapixels_text,
    ),
    "state": Term(
        example="stale,failed",
        help=f"thumbnails in one of these states: {', '.join(State)}",
        parse=lambda text: {"states": tuple(map(State, _some_of("states", State)(text)["states"]))},
        write=_joined("states"),
    ),
    "reason": Term(
        example="unreadable",
        help=f"thumbnails that failed for one of these reasons: {', '.join(Reason)}",
        parse=lambda text: {
            "reasons": tuple(map(Reason, _some_of("reasons", Reason)(text)["reasons"]))
        },
        write=_joined("reasons"),
    ),
    "recipe": Term(
        example="DIGEST",
        help="thumbnails made by this recipe",
        parse=_some_like("recipes", r"[0-9a-z]{1,16}", str.lower),
        write=_joined("recipes"),
    ),
    "generated-before": Term(
        example="YYYY-MM-DD",
        help="thumbnails made before that day",
        parse=_day("generated_before"),
        write=_plain("generated_before"),
    ),
    "shard": Term(
        example="0a",
        help="thumbnails in this folder of the cache",
        parse=_shard,
        write=_plain("shard"),
    ),
    "older-than": Term(
        example="7d",
        help="thumbnails made longer ago than that",
        parse=lambda text: {"older_than_days": days(text)},
        write=_plain("older_than_days", "{}d"),
    ),
}

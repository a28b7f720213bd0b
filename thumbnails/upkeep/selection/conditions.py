"""Conditions on images, each defined once as text, in words and as a query."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, State, TrainingSession
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.rendering import FACT_LENGTH, FORMATS, NO_TEXT, Compression, Note, clean_text
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.names import SHARDS

LARGEST_ID_DIGITS = 18
FIRST_YEAR, LAST_YEAR = 1900, 2999
"""Of a date; no time zone takes one of these years out of a database's range."""
WORDS_AT_MOST, TEXT_LENGTH = 32, 500
"""Of a search: each word is looked for in every row, and no name is longer."""
RANGES_AT_MOST = 200
"""Of ids: SQLite takes no expression of more than 1,000 parts."""
SIZE_CLASSES: tuple[tuple[float, float | None], ...] = ((0, 1), (1, 10), (10, 50), (50, None))
"""Classes of originals by megapixels: at least, and fewer than, which is None if it is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions on assets, combined with *and*; None does not restrict. See CONDITIONS."""

    # Which assets.
    ids: tuple[int, ...] | None = None
    id_ranges: tuple[tuple[int, int], ...] | None = None
    """Pairs of first and last id, inclusive."""
    name: str | None = None
    root: str | None = None
    session: str | None = None
    """All sessions of that name."""
    session_id: int | None = None
    from_date: date | None = None
    """In the site's time zone, as the other dates."""
    to_date: date | None = None
    # Of which originals.
    orientations: tuple[int, ...] | None = None
    formats: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    min_megapixels: float | None = None
    max_megapixels: float | None = None
    camera: str | None = None
    """Empty: those that name none; so for the two after it."""
    software: str | None = None
    color_profile: str | None = None
    compressions: tuple[Compression, ...] | None = None
    bit_depths: tuple[int, ...] | None = None
    has_alpha: bool | None = None
    frames: tuple[int, int | None] | None = None
    """The smallest and the largest number, inclusive; None is open."""
    notes: tuple[Note, ...] | None = None
    # With which thumbnails.
    states: tuple[State, ...] | None = None
    reasons: tuple[Reason, ...] | None = None
    recipes: tuple[str, ...] | None = None
    """Their digests."""
    shard: str | None = None
    older_than_days: int | None = None
    generated_before: date | None = None

    @property
    def is_everything(self) -> bool:
        return not self.as_json()

    def as_json(self) -> dict[str, Any]:
        """Returns the restrictions as they are stored on a run."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _as_json(value) for name, value in values.items() if value is not None}

    def as_texts(self) -> dict[str, str]:
        """Returns the texts of its conditions by name, as `selection_from` reads them."""
        texts = {name: condition.write(self) for name, condition in CONDITIONS.items()}
        return {name: text for name, text in texts.items() if text is not None}

    def as_options(self) -> str:
        """Returns it as command-line options, quoted for a shell."""
        return " ".join(f"--{name} {shlex.quote(text)}" for name, text in self.as_texts().items())

    def __str__(self) -> str:
        words = (condition.describe(self) for condition in CONDITIONS.values())
        return ", ".join(filter(None, words)) or "all images"

    def assets(self) -> ImageAssetQuerySet:
        """Returns the matching assets. Raises UsageError for unknown ids or an unknown session."""
        return self.narrow(ImageAsset.objects.all())

    def narrow(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        """Returns those of these assets that match. Raises UsageError as `assets`."""
        if self.from_date and self.to_date and self.to_date < self.from_date:
            raise UsageError(
                f"The dates end ({self.to_date}) before they begin ({self.from_date}).",
                about="to_date",
            )
        for condition in CONDITIONS.values():
            assets = condition.narrow(assets, self)
        return assets

    def narrow_by_name(self, assets: ImageAssetQuerySet) -> ImageAssetQuerySet:
        """Returns those of these assets whose name matches, whatever the other conditions say."""
        return CONDITIONS["name"].narrow(assets, self)

    def require_all_said(self, everything: bool, *, of: str = "thumbnails") -> None:
        """For purges. Raises UsageError unless either there are conditions or `everything`."""
        if self.is_everything != everything:
            message = f"Say which {of}, or 'all' for all of them, and not both."
            raise UsageError(message, about="all")


def selection_from(texts: Mapping[str, str]) -> Selection:
    """Returns the selection of these texts by the names of CONDITIONS; empty ones do not restrict.

    Raises UsageError, which names the field.
    """
    values: dict[str, Any] = {}
    for name, condition in CONDITIONS.items():
        if text := texts.get(name, "").strip():
            values |= condition.parse(text)
    return Selection(**values)


@dataclass(frozen=True, kw_only=True)
class OfField:
    """A condition on one field of a selection."""

    field: str
    example: str
    help: str
    words: str
    """Template of the description, filled with `name` of the value, by default its `text`."""
    matching: Callable[[ImageAssetQuerySet, Any], ImageAssetQuerySet]
    read: Callable[[str], Any] = str
    """Raises UsageError. `text` is its inverse."""
    text: Callable[[Any], str] = str
    name: Callable[[Any], str] | None = None

    def parse(self, text: str) -> dict[str, Any]:
        """Returns the fields of a Selection by name. Raises UsageError."""
        try:
            return {self.field: self.read(text)}
        except UsageError as error:
            raise UsageError(str(error), about=error.about or self.field) from None

    def write(self, selection: Selection) -> str | None:
        """Returns the text that `parse` reads; None if the selection does not restrict this."""
        value = self._value(selection)
        return None if value is None else self.text(value)

    def describe(self, selection: Selection) -> str:
        """Returns it in words; empty if the selection does not restrict this."""
        value = self._value(selection)
        return "" if value is None else self.words.format((self.name or self.text)(value))

    def narrow(self, assets: ImageAssetQuerySet, selection: Selection) -> ImageAssetQuerySet:
        """Returns those that match. Raises UsageError for an unknown id or session."""
        value = self._value(selection)
        return assets if value is None else self.matching(assets, value)

    def _value(self, selection: Selection) -> Any:
        value = getattr(selection, self.field)
        return None if value == () else value


class Ids:
    """Single ids, each of which must exist, and ranges, which need not be complete."""

    example = "1,2,5-9"
    help = "these images; ids missing from a range are ignored"

    def parse(self, text: str) -> dict[str, Any]:
        singles, ranges = _numbers_and_ranges(text, "ids")
        return {"ids": tuple(singles) or None, "id_ranges": tuple(ranges) or None}

    def write(self, selection: Selection) -> str | None:
        return ",".join(_id_texts(selection)) or None

    def describe(self, selection: Selection) -> str:
        if selection.ids is None and not selection.id_ranges:
            return ""
        return "ids " + _shortened(_id_texts(selection))

    def narrow(self, assets: ImageAssetQuerySet, selection: Selection) -> ImageAssetQuerySet:
        if selection.ids is None and not selection.id_ranges:
            return assets
        named = Q(pk__in=_existing(selection.ids or ()))
        for pair in selection.id_ranges or ():
            named |= Q(pk__range=pair)
        return assets.filter(named)


class Megapixels:
    """A half-open range of sizes."""

    example = "10-50"
    help = "originals with at least this many million pixels and fewer than the second; or 50-"
    NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,3})?"

    def parse(self, text: str) -> dict[str, Any]:
        match = re.fullmatch(rf"({self.NUMBER})-({self.NUMBER})?", text)
        if match is None:
            raise UsageError(f"{text!r} is not a range like 10-50 or 50-.", about="min_megapixels")
        below = None if match[2] is None else float(match[2])
        if below is not None and below <= float(match[1]):
            raise UsageError(f"The range {text} ends before it begins.", about="max_megapixels")
        return {"min_megapixels": float(match[1]), "max_megapixels": below}

    def write(self, selection: Selection) -> str | None:
        at_least, below = selection.min_megapixels, selection.max_megapixels
        if at_least is None and below is None:
            return None
        return f"{at_least or 0:g}-{'' if below is None else format(below, 'g')}"

    def describe(self, selection: Selection) -> str:
        words = []
        if selection.min_megapixels is not None:
            words.append(f"{selection.min_megapixels:g} megapixels or more")
        if selection.max_megapixels is not None:
            words.append(f"fewer than {selection.max_megapixels:g} megapixels")
        return ", ".join(words)

    def narrow(self, assets: ImageAssetQuerySet, selection: Selection) -> ImageAssetQuerySet:
        return assets.with_megapixels(selection.min_megapixels, selection.max_megapixels)


Condition = OfField | Ids | Megapixels


def as_ranges(numbers: Iterable[int]) -> str:
    """Returns numbers as ranges: '2-8', '3,6-8'."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def day(text: str) -> date:
    """The date that a text such as 2026-01-31 names. Raises UsageError."""
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            found = date.fromisoformat(text)
            if FIRST_YEAR <= found.year <= LAST_YEAR:
                return found
    except ValueError:  # 2026-02-30
        pass
    raise UsageError(f"{text!r} is not a date like 2026-01-31, from {FIRST_YEAR} to {LAST_YEAR}.")


def search_text(text: str) -> str:
    """Returns it. Raises UsageError for a search that no name can match or that costs too much."""
    if len(_text(text).split()) > WORDS_AT_MOST:
        raise UsageError(f"A search takes at most {WORDS_AT_MOST} words.", about="name")
    return text


def label(text: str) -> str:
    """Returns a camera, software or profile as originals name it, empty for NO_TEXT.

    Raises UsageError for what no original can name.
    """
    found = clean_text(text)
    if len(text) > FACT_LENGTH or (not found and text.casefold() != NO_TEXT):
        raise UsageError(
            f"{text[:FACT_LENGTH]!r} is not a line of at most {FACT_LENGTH} printable characters."
        )
    return found


def frame_range(at_least: int | None, at_most: int | None) -> tuple[int, int | None] | None:
    """Returns the range of numbers of frames; None if neither restricts it. Raises UsageError."""
    if at_least is None and at_most is None:
        return None
    first = at_least or 1
    if at_most is not None and at_most < first:
        raise UsageError(f"The range {first}-{at_most} ends before it begins.", about="max_frames")
    return first, at_most


def days(text: str) -> int:
    """Parse an age such as '7d'. Returns days. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,5})d", text)
    if match is None:
        raise UsageError(f"{text!r} is not an age in days like 7d.", about="older_than_days")
    return int(match[1])


def sessions_named(name: str) -> list[int]:
    """Returns the ids of the sessions of that name, ascending. Raises UsageError if none has it."""
    found = TrainingSession.objects.filter(name=name).order_by("pk")
    ids = list(found.values_list("pk", flat=True))
    if not ids:
        raise UsageError(f"There is no session named {name!r}.", about="session")
    return ids


def ids_of_sessions(selection: Selection) -> list[int] | None:
    """Returns the ids of the sessions that it selects, of only one if it names an id; None if it
    selects by none. Raises UsageError if there are none such."""
    if selection.session_id is not None:
        _name_of_session(selection.session_id)
        return [selection.session_id]
    return None if selection.session is None else sessions_named(selection.session)


def fields_of_session(session_id: int | None) -> dict[str, Any]:
    """Returns the fields of a selection of that one session; none for None.

    It is selected by its name if no other session has that name, so that a run over it is the
    same by all entry points. Raises UsageError for an unknown id.
    """
    if session_id is None:
        return {}
    name = _name_of_session(session_id)
    texts = {"session": name}
    is_unique = len(sessions_named(name)) == 1
    # A blank name, or one with spaces around it, cannot be written as an option.
    is_text = selection_from(texts).as_texts() == texts
    return {"session": name} if is_unique and is_text else {"session_id": session_id}


# --- reading --------------------------------------------------------------------------------------


def _text(text: str) -> str:
    if len(text) > TEXT_LENGTH:
        raise UsageError(f"A text has at most {TEXT_LENGTH} characters.")
    if "\0" in text:  # PostgreSQL takes none in a query
        raise UsageError("A text has no null characters.")
    return text


def _some_of(
    allowed: Iterable[Any], change: Callable[[str], str] = str
) -> Callable[[str], tuple[Any, ...]]:
    words = {str(word): word for word in allowed}

    def read(text: str) -> tuple[Any, ...]:
        found = [words.get(change(part.strip())) for part in text.split(",")]
        if None in found:
            raise UsageError(f"{text!r} is not one of {', '.join(words)}.")
        return tuple(dict.fromkeys(found))

    return read


def _some_like(
    pattern: str, change: Callable[[str], str] = str
) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        parts = [change(part.strip()) for part in text.split(",")]
        if not all(re.fullmatch(pattern, part) for part in parts):
            raise UsageError(f"{text!r} is not a valid value.")
        return tuple(dict.fromkeys(parts))

    return read


def _orientations(text: str) -> tuple[int, ...]:
    singles, ranges = _numbers_and_ranges(text, "orientations")
    for first, last in ranges:
        singles += range(first, min(last, 9) + 1)
    if not all(1 <= number <= 8 for number in singles):
        raise UsageError("An EXIF orientation is a number from 1 to 8.")
    return tuple(sorted(set(singles)))


def _bit_depths(text: str) -> tuple[int, ...]:
    return tuple(map(int, _some_like("[1-9][0-9]?")(text)))


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise UsageError(f"{text!r} is neither yes nor no.")
    return text == "yes"


def _frames(text: str) -> tuple[int, int | None] | None:
    match = re.fullmatch(r"([1-9][0-9]{0,8})(?:(-)([1-9][0-9]{0,8})?)?", text)
    if match is None:
        raise UsageError(f"{text!r} is not a number or a range like 1, 2-10 or 2-.")
    last = match[3] if match[2] else match[1]
    return frame_range(int(match[1]), None if last is None else int(last))


def _numbers_and_ranges(text: str, field: str) -> tuple[list[int], list[tuple[int, int]]]:
    """'1,2,5-9' as single numbers and ranges."""
    singles: list[int] = []
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        digits = f"[1-9][0-9]{{0,{LARGEST_ID_DIGITS - 1}}}"
        match = re.fullmatch(rf"\s*({digits})(?:-({digits}))?\s*", part)
        if match is None:
            raise UsageError(f"{part!r} is neither a number nor a range like 5-9.", about=field)
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


def _session_id(text: str) -> int:
    if re.fullmatch(f"[1-9][0-9]{{0,{LARGEST_ID_DIGITS - 1}}}", text) is None:
        raise UsageError(f"{text!r} is not an id like 7.")
    return int(text)


def _root(text: str) -> str:
    known = originals.roots()
    if text not in known:
        raise UsageError(f"{text!r} is not one of the roots: {', '.join(known) or 'none'}.")
    return text


def _shard(text: str) -> str:
    if text not in SHARDS:
        raise UsageError(f"{text!r} is not a shard like 0a.")
    return text


# --- writing --------------------------------------------------------------------------------------


def _as_json(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [list(each) if isinstance(each, tuple) else each for each in value]
    return value


def _joined(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _or_none(text: str) -> str:
    return text or NO_TEXT


def _or(values: Iterable[str]) -> str:
    return " or ".join(values)


def _frames_text(frames: tuple[int, int | None]) -> str:
    first, last = frames
    return str(first) if last == first else f"{first}-{last or ''}"


def _id_texts(selection: Selection) -> list[str]:
    ranges = [f"{first}-{last}" for first, last in selection.id_ranges or ()]
    return [*map(str, selection.ids or ()), *ranges]


def _shortened(words: list[str]) -> str:
    return ", ".join(words[:10]) + (f" and {len(words) - 10:,} more" if len(words) > 10 else "")


# --- querying -------------------------------------------------------------------------------------


def _existing(ids: Iterable[int]) -> list[int]:
    wanted = sorted(set(ids))
    known = set(ImageAsset.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    unknown = [asset_id for asset_id in wanted if asset_id not in known]
    if unknown:
        raise UsageError(
            f"There is no image with the id {_shortened(list(map(str, unknown)))}.", about="ids"
        )
    return wanted


def _named(assets: ImageAssetQuerySet, name: str) -> ImageAssetQuerySet:
    for word in name.split():
        assets = assets.filter(original__icontains=word)
    return assets


def _naming(column: str) -> Callable[[ImageAssetQuerySet, str], ImageAssetQuerySet]:
    """The condition that originals name this, or that they are described and name none."""

    def matching(assets: ImageAssetQuerySet, text: str) -> ImageAssetQuerySet:
        found = assets.filter(**{column: text})
        return found if text else found.filter(facts_version__gt=0)

    return matching


def _with_frames(assets: ImageAssetQuerySet, frames: tuple[int, int | None]) -> ImageAssetQuerySet:
    first, last = frames
    found = assets.filter(frames__gte=first)
    return found if last is None else found.filter(frames__lte=last)


def _of_sessions_named(assets: ImageAssetQuerySet, name: str) -> ImageAssetQuerySet:
    return assets.in_sessions(sessions_named(name))


def _of_session(assets: ImageAssetQuerySet, session_id: int) -> ImageAssetQuerySet:
    _name_of_session(session_id)
    return assets.in_sessions([session_id])


def _name_of_session(session_id: int) -> str:
    name = TrainingSession.objects.filter(pk=session_id).values_list("name", flat=True).first()
    if name is None:
        raise UsageError(f"There is no session with the id {session_id}.", about="session_id")
    return name


def _in_shard(assets: ImageAssetQuerySet, shard: str) -> ImageAssetQuerySet:
    """By the database and by the folder's files, which may be unrecorded."""
    on_disk = [file.asset_id for file in cache.walk(shard)]
    return assets.filter(Q(thumbnail_path__startswith=f"{shard}/") | Q(pk__in=on_disk))


CONDITIONS: dict[str, Condition] = {
    "ids": Ids(),
    "name": OfField(
        field="name",
        example="WORDS",
        help="images whose original's name contains each of these words",
        words="named {}",
        matching=_named,
        read=search_text,
    ),
    "root": OfField(
        field="root",
        example="NAME",
        help="images whose original is in this root; that of a tracked field is named like "
        "catalog-product-photo",
        words="in the root {}",
        matching=lambda assets, root: assets.filter(original__startswith=f"{root}/"),
        read=_root,
    ),
    "session": OfField(
        field="session",
        example="NAME",
        help="images of the training sessions of this name",
        words="session {}",
        matching=_of_sessions_named,
        read=_text,
    ),
    "session-id": OfField(
        field="session_id",
        example="7",
        help="images of this training session",
        words="session with the id {}",
        matching=_of_session,
        read=_session_id,
    ),
    "from-date": OfField(
        field="from_date",
        example="YYYY-MM-DD",
        help="images created on or after that day",
        words="created from {}",
        matching=ImageAssetQuerySet.created_from,
        read=day,
    ),
    "to-date": OfField(
        field="to_date",
        example="YYYY-MM-DD",
        help="images created on or before that day",
        words="created to {}",
        matching=ImageAssetQuerySet.created_to,
        read=day,
    ),
    "orientation": OfField(
        field="orientations",
        example="2-8",
        help="originals with one of these EXIF orientations",
        words="orientation {}",
        matching=lambda assets, numbers: assets.filter(orientation__in=numbers),
        read=_orientations,
        text=as_ranges,
    ),
    "format": OfField(
        field="formats",
        example="jpeg",
        help=f"originals in one of these formats: {', '.join(FORMATS)}",
        words="format {}",
        matching=lambda assets, formats: assets.filter(format__in=formats),
        read=_some_of(FORMATS, str.upper),
        text=_joined,
        name=_or,
    ),
    "mode": OfField(
        field="modes",
        example="CMYK",
        help="originals in one of these colour modes, by Pillow's names",
        words="mode {}",
        matching=lambda assets, modes: assets.filter(mode__in=modes),
        read=_some_like(r"[A-Za-z0-9;]{1,8}"),
        text=_joined,
        name=_or,
    ),
    "megapixels": Megapixels(),
    "camera": OfField(
        field="camera",
        example="'Apple iPhone 12'",
        help=f"originals of this camera, by EXIF's make and model; {NO_TEXT}: that name none",
        words="camera {}",
        matching=_naming("camera"),
        read=label,
        text=_or_none,
    ),
    "software": OfField(
        field="software",
        example="NAME",
        help=f"originals that this software has written; {NO_TEXT}: that name none",
        words="software {}",
        matching=_naming("software"),
        read=label,
        text=_or_none,
    ),
    "profile": OfField(
        field="color_profile",
        example="'Display P3'",
        help=f"originals with the colour profile of this name; {NO_TEXT}: without one",
        words="colour profile {}",
        matching=_naming("color_profile"),
        read=label,
        text=_or_none,
    ),
    "compression": OfField(
        field="compressions",
        example="progressive",
        help=f"originals compressed in one of these ways: {', '.join(Compression)}",
        words="compression {}",
        matching=lambda assets, names: assets.filter(compression__in=names),
        read=_some_of(Compression),
        text=_joined,
        name=_or,
    ),
    "bit-depth": OfField(
        field="bit_depths",
        example="16",
        help="originals with one of these numbers of bits a channel",
        words="{} bits a channel",
        matching=lambda assets, numbers: assets.filter(bit_depth__in=numbers),
        read=_bit_depths,
        text=_joined,
        name=lambda numbers: _or(map(str, numbers)),
    ),
    "alpha": OfField(
        field="has_alpha",
        example="yes",
        help="originals whose pixels may be transparent: yes or no",
        words="{} alpha",
        matching=lambda assets, has_alpha: assets.filter(has_alpha=has_alpha),
        read=_yes_or_no,
        text=lambda has_alpha: "yes" if has_alpha else "no",
        name=lambda has_alpha: "with" if has_alpha else "without",
    ),
    "frames": OfField(
        field="frames",
        example="2-",
        help="originals with this many frames or pages: a number or a range",
        words="{} frames",
        matching=_with_frames,
        read=_frames,
        text=_frames_text,
    ),
    "note": OfField(
        field="notes",
        example=str(Note.TRUNCATED),
        help=f"originals that are shown in part, with one of these notes: {', '.join(Note)}",
        words="{}",
        matching=lambda assets, notes: assets.filter(note__in=notes),
        read=_some_of(Note),
        text=_joined,
        name=_or,
    ),
    "state": OfField(
        field="states",
        example="stale,failed",
        help=f"thumbnails in one of these states: {', '.join(State)}",
        words="{}",
        matching=lambda assets, states: assets.in_state(*states),
        read=_some_of(State),
        text=_joined,
        name=_or,
    ),
    "reason": OfField(
        field="reasons",
        example="unreadable",
        help=f"thumbnails that failed for one of these reasons: {', '.join(Reason)}",
        words="failed as {}",
        matching=ImageAssetQuerySet.failed_for,
        read=_some_of(Reason),
        text=_joined,
        name=lambda reasons: _or(reason.label for reason in reasons),
    ),
    "recipe": OfField(
        field="recipes",
        example="DIGEST",
        help="thumbnails made by this recipe",
        words="made by recipe {}",
        matching=lambda assets, recipes: assets.exclude(thumbnail_path="").filter(
            thumbnail_recipe__in=recipes
        ),
        read=_some_like(r"[0-9a-z]{1,16}", str.lower),
        text=_joined,
        name=_or,
    ),
    "generated-before": OfField(
        field="generated_before",
        example="YYYY-MM-DD",
        help="thumbnails made before that day",
        words="thumbnails made before {}",
        matching=ImageAssetQuerySet.generated_before,
        read=day,
    ),
    "shard": OfField(
        field="shard",
        example="0a",
        help="thumbnails in this folder of the cache",
        words="shard {}",
        matching=_in_shard,
        read=_shard,
    ),
    "older-than": OfField(
        field="older_than_days",
        example="7d",
        help="thumbnails made longer ago than this",
        words="thumbnails older than {} days",
        matching=lambda assets, number: assets.filter(
            thumbnail_generated_at__lt=timezone.now() - timedelta(days=number)
        ),
        read=days,
        text="{}d".format,
        name=str,
    ),
}
"""By name, which is a command's option and a parameter of the admin's URLs."""

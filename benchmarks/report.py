"""The measurements as a table and as JSON."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import django
import PIL

LABEL_WIDTH, VALUE_WIDTH, BOUND_WIDTH, MET_WIDTH = 58, 15, 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """An upper or a lower bound of a value, in the row's unit."""

    at_most: float | None = None
    at_least: float | None = None

    def holds(self, value: float) -> bool:
        if self.at_most is not None and value > self.at_most:
            return False
        return self.at_least is None or value >= self.at_least

    def __str__(self) -> str:
        return f"≤ {self.at_most:,g}" if self.at_most is not None else f"≥ {self.at_least:,g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured value."""

    key: str
    """Its stable name in the JSON, for scripts."""
    label: str
    value: float | None
    """None if it could not be measured; the note says why."""
    unit: str
    digits: int = 1
    """Decimals in the table."""
    bound: Bound | None = None
    """None for information only."""
    judged: bool = True
    """False if the bound applies to more than this run measured."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None if it cannot be judged."""
        if self.bound is None or self.value is None or not self.judged:
            return None
        return self.bound.holds(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows that belong together."""

    title: str
    rows: Sequence[Row]

    def as_text(self) -> str:
        return "\n".join([self.title, *map(_line, self.rows), ""])


def heading() -> str:
    columns = "measured".rjust(VALUE_WIDTH), "bound".rjust(BOUND_WIDTH), "met".rjust(MET_WIDTH)
    return f"{'':<{LABEL_WIDTH}}{''.join(columns)}"


def _line(row: Row) -> str:
    bound = "" if row.bound is None else str(row.bound)
    line = (
        f"  {row.label:<{LABEL_WIDTH - 2}}{value_of(row):>{VALUE_WIDTH}}"
        f"{bound:>{BOUND_WIDTH}}{_verdict(row):>{MET_WIDTH}}"
    )
    return f"{line}   {row.note}".rstrip()


def value_of(row: Row) -> str:
    """Returns the value with its unit; a dash where it could not be measured."""
    return "–" if row.value is None else f"{row.value:,.{row.digits}f} {row.unit}".rstrip()


def _verdict(row: Row) -> str:
    if row.met is not None:
        return "yes" if row.met else "MISSED"
    return "" if row.bound is None else "–"


def as_json(sections: Sequence[Section], *, quick: bool, seconds: float) -> dict[str, Any]:
    """Returns all rows and the environment. `seconds` is the duration of the run."""
    return {
        "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "quick": quick,
        "machine": platform.platform(),
        "python": sys.version.split()[0],
        "django": django.__version__,
        "pillow": PIL.__version__,
        "rows": [_row_as_json(section, row) for section in sections for row in section.rows],
    }


def _row_as_json(section: Section, row: Row) -> dict[str, Any]:
    bound = None
    if row.bound is not None:
        given = {name: limit for name, limit in asdict(row.bound).items() if limit is not None}
        bound = {"atMost" if name == "at_most" else "atLeast": x for name, x in given.items()}
    return {
        "key": row.key,
        "section": section.title,
        "label": row.label,
        "value": row.value,
        "unit": row.unit,
        "bound": bound,
        "met": row.met,
        "note": row.note,
    }

"""The measurements as a document, which keeps the sections that were not measured again."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.report import Row, Section, value_of

PATH = Path(__file__).with_name("RESULTS.md")
INTRODUCTION = """\
# Results

Written by `make bench ARGS=--write-results`, or a section alone by
`make bench ARGS="--write-results pages"`; not to be edited. What is compared was measured side by
side in one run, in turns. Bounds are of ratios where they can be, so that they hold on any machine.
"""
HEADING = re.compile(r"^## `(\w+)`: ", re.MULTILINE)
PACKAGES = ("Django", "pillow", "gunicorn", "psycopg")


def record(path: Path, name: str, section: Section, order: Sequence[str]) -> None:
    """Replace one section of the document. `order` has the names of all."""
    kept = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept[name] = _document(name, section)
    texts = [kept[each] for each in order if each in kept]
    path.write_text("\n".join([INTRODUCTION, *texts]), encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    """The sections of the document by their names, each with its heading."""
    starts = list(HEADING.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {
        match[1]: text[match.start() : end].rstrip("\n") + "\n"
        for match, end in zip(starts, ends, strict=True)
    }


def _document(name: str, section: Section) -> str:
    lines = [
        f"## `{name}`: {_escaped(section.title)}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. {software()}.",
        "",
        "| | measured | bound | kept | |",
        "| --- | ---: | ---: | --- | --- |",
        *map(_line, section.rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    kept = {None: "", True: "yes", False: "**no**"}[row.met]
    bound = "" if row.bound is None else str(row.bound)
    return f"| {_escaped(row.label)} | {value_of(row)} | {bound} | {kept} | {_escaped(row.note)} |"


def _escaped(text: str) -> str:
    """For a cell of a table in Markdown, where `<img>` would be an image."""
    return escape(text, quote=False).replace("|", "\\|")


def machine() -> str:
    """Returns processor, cores, memory and system in one line, and no name of the machine."""
    memory_gib = psutil.virtual_memory().total / 2**30
    cores = psutil.cpu_count() or 1
    return (
        f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {memory_gib:.0f} GiB, "
        f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    text = facts.read_text() if facts.exists() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def software() -> str:
    """Returns the versions of Python and the packages that most depends on."""
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return ", ".join([f"Python {sys.version.split()[0]}", *versions])

"""Record originals from files and folders, or from another service's table."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from thumbnails.exceptions import Reason, UsageError
from thumbnails.management.base import (
    EXAMPLES,
    FAILED,
    ProgressBar,
    ThumbnailCommand,
    printable,
    whole_number,
)
from thumbnails.upkeep.images import importing
from thumbnails.upkeep.images.csv_import import RESERVE, ImportOptions, RowOutcome, TableImport
from thumbnails.upkeep.images.csv_rows import COLUMNS, Problem
from thumbnails.upkeep.images.importing import ImportOutcome
from thumbnails.upkeep.runs.arrivals import Arrivals

PIECE_BYTES = 2**20


class Command(ThumbnailCommand):
    help = (
        "Record the pictures at or below PATH in the formats of THUMBNAIL_FORMATS, recognized by "
        "their header and not by their name. A file below ORIGINALS_DIR or a folder of "
        "ORIGINALS_DIRS is recorded where it lies, any other is copied to ORIGINALS_DIR. A PATH "
        "that does not exist and begins with a root's name is in that root. Run again, it adds "
        "what is new and updates what has changed. Links that lead out of PATH are refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
        parser.add_argument(
            "--session", default="", metavar="NAME", help="put new ones into this session"
        )
        parser.add_argument(
            "--hidden",
            action="store_true",
            help="take files and folders below PATH whose names begin with a dot, too",
        )
        table = parser.add_argument_group(
            "from another service's table", "Ids, dates and sessions are kept."
        )
        table.add_argument(
            "--from-csv",
            metavar="FILE",
            help=f"CSV with a header, of the columns {', '.join(COLUMNS)}; - is standard input",
        )
        table.add_argument(
            "--old-thumbnails",
            type=Path,
            metavar="DIR",
            help="the folder that a relative thumbnail_path is below (default: THUMBNAIL_DIR)",
        )
        table.add_argument(
            "--reserve",
            type=whole_number,
            default=RESERVE,
            metavar="N",
            help="let the ids of new images begin that far after the largest one: the other "
            "service may go on to use those in between (default: %(default)s)",
        )
        table.add_argument(
            "--no-facts",
            action="store_true",
            help="do not look at the originals; the first render of each records its facts",
        )
        table.add_argument(
            "--dry-run", action="store_true", help="check every row, and change nothing"
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["paths"]) == bool(options["from_csv"]):
            raise UsageError("Say which files or folders, or --from-csv, and not both.")
        if options["from_csv"]:
            self._import_table(options)
            return
        for_tables = {
            "--old-thumbnails": options["old_thumbnails"],
            "--no-facts": options["no_facts"],
            "--dry-run": options["dry_run"],
        }
        if given := [name for name, value in for_tables.items() if value]:
            raise UsageError(f"{given[0]} goes with --from-csv.")
        self._import_files(options)

    def _import_files(self, options: dict[str, Any]) -> None:
        paths: list[Path] = options["paths"]
        as_json: bool = options["json"]
        with_hidden: bool = options["hidden"]
        total = sum(1 for _ in importing.find_files(paths, with_hidden=with_hidden))
        counted: Counter[ImportOutcome] = Counter()
        refused: list[importing.ImportResult] = []
        arrivals = Arrivals()
        with ProgressBar(total, unit="file", quiet=as_json) as bar:
            files = importing.find_files(paths, with_hidden=with_hidden)
            results = importing.import_files(files, session=options["session"])
            for done, result in enumerate(arrivals.note(results), start=1):
                counted[result.outcome] += 1
                if result.outcome == ImportOutcome.REFUSED:
                    refused.append(result)
                if done % 100 == 0 or done == total:
                    bar.show(done, len(refused))
        self.render(arrivals)
        if as_json:
            self.print_json(
                {outcome.value: counted[outcome] for outcome in ImportOutcome}
                | {
                    "refusals": [
                        {"path": str(one.path), "reason": one.reason, "detail": one.detail}
                        for one in refused
                    ]
                }
            )
        else:
            for one in refused:
                self.stdout.write(printable(f"refused {one.path} ({one.reason}): {one.detail}"))
            self.stdout.write(_summary(counted))
        if refused:
            raise CommandError(_refusals(refused), returncode=FAILED)

    def _import_table(self, options: dict[str, Any]) -> None:
        if options["session"] or options["hidden"]:
            raise UsageError("--session and --hidden do not go with --from-csv.")
        as_json: bool = options["json"]
        how = ImportOptions(
            with_facts=not options["no_facts"],
            old_thumbnails=options["old_thumbnails"] and options["old_thumbnails"].absolute(),
            reserve=options["reserve"],
            dry_run=options["dry_run"],
        )
        report, arrivals = _TableReport(), Arrivals(dry_run=how.dry_run)
        with _opened(options["from_csv"]) as (file, lines), TableImport(how) as table:
            with ProgressBar(lines, unit="row", quiet=as_json) as bar:
                results = table.import_rows(file)
                for done, result in enumerate(arrivals.note(results), start=1):
                    report.count(result.line, result.outcome, result.problem)
                    if done % 1000 == 0 or done == lines:
                        bar.show(done, report.refused)
            for asset_id in table.gone():
                report.gone += 1
                report.gone_examples.append(asset_id)
                del report.gone_examples[EXAMPLES:]
        self.render(arrivals)
        if as_json:
            self.print_json({"dryRun": how.dry_run, **report.as_json()})
        else:
            for line in report.lines(dry_run=how.dry_run):
                self.stdout.write(printable(line))
        if report.refused:
            raise CommandError(f"{report.refused:,} rows refused.", returncode=FAILED)


class _TableReport:
    """Counts of a table's rows, with a few examples of each problem."""

    def __init__(self) -> None:
        self.counted: Counter[RowOutcome] = Counter()
        self.problems: Counter[Problem] = Counter()
        self.examples: dict[Problem, list[tuple[int, str]]] = {}
        self.gone = 0
        self.gone_examples: list[int] = []

    @property
    def refused(self) -> int:
        return self.counted[RowOutcome.REFUSED]

    def count(self, line: int, outcome: RowOutcome, problem: Any) -> None:
        self.counted[outcome] += 1
        if problem is not None:
            self.problems[problem.problem] += 1
            examples = self.examples.setdefault(problem.problem, [])
            if len(examples) < EXAMPLES:
                examples.append((line, str(problem)))

    def as_json(self) -> dict[str, Any]:
        return {
            **{outcome.value: self.counted[outcome] for outcome in RowOutcome},
            "gone": self.gone,
            "problems": {
                problem.value: {
                    "count": number,
                    "examples": [
                        {"line": line, "detail": detail} for line, detail in self.examples[problem]
                    ],
                }
                for problem, number in self.problems.items()
            },
        }

    def lines(self, *, dry_run: bool) -> Iterator[str]:
        for problem, number in self.problems.items():
            yield f"{DESCRIPTIONS[problem]} ({number:,}):"
            for line, detail in self.examples[problem]:
                yield f"  line {line:,}: {detail}"
            if number > len(self.examples[problem]):
                yield "  …"
        if self.gone:
            ids = ", ".join(map(str, self.gone_examples))
            yield f"Images that are not in the table ({self.gone:,}): {ids}" + (
                " …" if self.gone > len(self.gone_examples) else ""
            )
        counted = ", ".join(f"{self.counted[outcome]:,} {outcome.value}" for outcome in RowOutcome)
        yield f"{counted}." + (" Nothing was changed: this was a dry run." if dry_run else "")


DESCRIPTIONS = {
    Problem.NOT_UTF8: "Rows that are not valid UTF-8",
    Problem.COLUMNS: "Rows that do not fit the header",
    Problem.ID: "Rows without a valid id",
    Problem.DATE: "Rows without a valid date",
    Problem.SESSION: "Rows without a valid session",
    Problem.PATH: "Rows whose path is not an original's",
    Problem.NOT_A_FILE: "Rows whose path is a folder",
    Problem.CONFLICT: "Rows that contradict the database or an earlier row",
    Problem.ORIGINAL: "Images imported without facts: their originals cannot be read",
    Problem.THUMBNAIL: "Images imported without their old thumbnail",
}


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """Yields the file, and about how many rows it has if that can be told."""
    if name == "-":
        yield sys.stdin.buffer, None
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from error
    with file:
        lines = None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            lines = sum(piece.count(b"\n") for piece in iter(lambda: file.read(PIECE_BYTES), b""))
            file.seek(0)
        yield file, lines


def _refusals(refused: list[importing.ImportResult]) -> str:
    """How many were refused, for which reasons, the most common first."""
    kinds = Counter(str(one.reason) for one in refused).most_common()
    counted = ", ".join(f"{number:,} {Reason(kind).label}" for kind, number in kinds)
    return f"{len(refused):,} refused: {counted}."


def _summary(counted: Counter[ImportOutcome]) -> str:
    always_shown = [outcome for outcome in ImportOutcome if outcome != ImportOutcome.HIDDEN]
    parts = [f"{counted[outcome]:,} {outcome.value}" for outcome in always_shown]
    if hidden := counted[ImportOutcome.HIDDEN]:
        parts.append(f"{hidden:,} hidden passed over")
    return f"{', '.join(parts)}."

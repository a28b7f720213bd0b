"""Bring the images of tracked fields in line with the rows of their models."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from thumbnails.exceptions import UsageError
from thumbnails.management.base import (
    EXAMPLES,
    FAILED,
    ProgressBar,
    ThumbnailCommand,
    printable,
    share,
)
from thumbnails.upkeep.images import tracked_fields
from thumbnails.upkeep.images.rescan import SHARE_AT_MOST
from thumbnails.upkeep.images.tracked_fields import TrackedField
from thumbnails.upkeep.images.tracked_files import FieldSync, FileOutcome, FileResult
from thumbnails.upkeep.runs.arrivals import Arrivals

PROBLEMS = (FileOutcome.UNREAD, FileOutcome.REFUSED)


class Command(ThumbnailCommand):
    help = (
        "Make each file of the tracked fields an image, record those that were replaced, and "
        "delete the images, never the files, that no row has any more. For rows that were there "
        "before their field was tracked, or were changed without signals, as by bulk_create and "
        "update."
    )
    uses_cache = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "fields", nargs="*", metavar="FIELD", help="catalog.Product.photo (default: all)"
        )
        parser.add_argument(
            "--database",
            action="append",
            default=[],
            choices=tuple(connections),
            help="that the rows are in; several if they are in several (default: the one that "
            "the model is written to)",
        )
        parser.add_argument(
            "--allow-share",
            type=share,
            default=SHARE_AT_MOST,
            metavar="SHARE",
            help="delete up to this share of a field's images (default: %(default)s)",
        )
        parser.add_argument("--dry-run", action="store_true", help="change nothing")
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        as_json, dry_run = options["json"], options["dry_run"]
        arrivals = Arrivals(dry_run=dry_run)
        reports = [self._sync(found, arrivals, options) for found in _named(options["fields"])]
        self.render(arrivals)
        if as_json:
            fields = {report.label: report.as_json() for report in reports}
            self.print_json({"dryRun": dry_run, "fields": fields})
        else:
            for line in chain.from_iterable(report.lines() for report in reports):
                self.stdout.write(printable(line))
            if dry_run:
                self.stdout.write("Nothing was changed: this was a dry run.")
        if any(report.failed or report.problem for report in reports):
            raise CommandError("Problems remain.", returncode=FAILED)

    def _sync(self, found: TrackedField, arrivals: Arrivals, options: dict[str, Any]) -> "_Report":
        sync = FieldSync(found, options["database"], save=not options["dry_run"])
        report = _Report(found)
        with ProgressBar(sync.rows(), unit="row", quiet=options["json"]) as bar:
            for rows, results in sync.follow_rows():
                report.count(arrivals.note(results))
                bar.show(rows, report.failed)
        gone = sync.gone()
        report.gone, report.problem = len(gone), sync.problem(gone, options["allow_share"])
        if not report.problem:
            sync.delete(gone)
        return report


def _named(labels: list[str]) -> list[TrackedField]:
    """The fields of these labels, all without any. Raises UsageError."""
    known = {found.label: found for found in tracked_fields.tracked_fields()}
    if not known:
        raise UsageError("No field is tracked: see docs/own-project.md.")
    if unknown := [label for label in labels if label not in known]:
        raise UsageError(f"{unknown[0]} is not tracked; tracked are {', '.join(known)}.")
    return [known[label] for label in dict.fromkeys(labels)] or list(known.values())


class _Report:
    """Counts of one field, with a few examples of each problem."""

    def __init__(self, found: TrackedField) -> None:
        self.label = found.label
        self.counted: Counter[FileOutcome] = Counter()
        self.examples: dict[FileOutcome, list[FileResult]] = {each: [] for each in PROBLEMS}
        self.gone = 0
        self.problem = ""
        """Why the images that are gone were not deleted."""

    @property
    def failed(self) -> int:
        return sum(self.counted[each] for each in PROBLEMS)

    def count(self, results: Iterable[FileResult]) -> None:
        for result in results:
            self.counted[result.outcome] += 1
            examples = self.examples.get(result.outcome)
            if examples is not None and len(examples) < EXAMPLES:
                examples.append(result)

    def as_json(self) -> dict[str, Any]:
        return {
            **{outcome.value: self.counted[outcome] for outcome in FileOutcome},
            "gone": self.gone,
            "problem": self.problem,
            "examples": [
                {"file": one.file, "outcome": one.outcome.value, "detail": one.detail}
                for examples in self.examples.values()
                for one in examples
            ],
        }

    def lines(self) -> Iterator[str]:
        counted = [f"{self.counted[outcome]:,} {outcome.value}" for outcome in FileOutcome]
        yield f"{self.label}: {', '.join(counted)}, {self.gone:,} gone."
        for examples in self.examples.values():
            yield from (f"  {one.outcome.value} {one.file}: {one.detail}" for one in examples)
        if self.problem:
            yield f"  {self.problem}"

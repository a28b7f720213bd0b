"""Show runs, and cancel, resume or retry them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import pluralize

from thumbnails import conf
from thumbnails.exceptions import NotDispatched, NothingFailed, Reason, UsageError
from thumbnails.management.base import (
    EXAMPLES,
    FAILED,
    ProgressBar,
    RunCommand,
    counts,
    positive,
    printable,
    run_as_json,
)
from thumbnails.models import Run
from thumbnails.models.runs import progress_of
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.reports import health, run_report
from thumbnails.upkeep.reports.formatting import done_of_total
from thumbnails.upkeep.reports.run_report import AS_RECORDED, ReportRow
from thumbnails.upkeep.runs import control, starting

LISTED = 20
SHOWN_EVERY = 100
"""Images of a report from one update of the progress bar to the next."""


class Command(RunCommand):
    help = (
        "Show runs (list, show, watch, report), stop one (cancel), let the workers go on with it "
        "(resume), or start a new one over what failed in it (retry)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", metavar="VERB")
        listing = verbs.add_parser("list", help="the last runs")
        listing.add_argument("--json", action="store_true", help="report as JSON")
        for verb, text in (
            ("show", "the outcomes of the run's images"),
            ("watch", "its progress, until it ends"),
            ("cancel", "stop it; what is done stays done"),
            ("resume", "let the workers go on with what is left"),
            ("retry", "a new run over what failed in it"),
        ):
            one = verbs.add_parser(verb, help=text)
            one.add_argument("run", type=positive, metavar="N", help="the run's number")
            one.add_argument("--json", action="store_true", help="report as JSON")
            if verb == "retry":
                one.add_argument(
                    "--reason", choices=[*Reason], type=Reason, help="only what failed for this"
                )
        report = verbs.add_parser("report", help="what became of each image, and how it is now")
        report.add_argument("run", type=positive, metavar="N", help="the run's number")
        form = report.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="every image, as CSV")
        form.add_argument("--json", action="store_true", help="every image, as JSON")
        report.add_argument(
            "--verify", action="store_true", help="compare each file's stamp with what is recorded"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"] or "list"
        as_json = bool(options.get("json"))
        if verb == "list":
            self._list(as_json=as_json)
            return
        run = self._find(options["run"])
        if verb == "report":
            with self.stop.at_once():  # it only reads
                _Report(self, run, verify=options["verify"]).write(csv=options["csv"], json=as_json)
            return
        try:
            self._do(verb, run, as_json=as_json, reason=options.get("reason"))
        except NotDispatched as error:
            raise CommandError(str(error), returncode=FAILED) from error

    def _do(self, verb: str, run: Run, *, as_json: bool, reason: Reason | None) -> None:
        match verb:
            case "show":
                self._show(run, as_json=as_json)
            case "watch":
                self.watch(run, as_json=as_json)
            case "cancel":
                control.cancel(run)
                self._report_change(run, "cancelled", as_json=as_json)
            case "resume":
                control.resume(run)
                self._report_change(run, "resumed", as_json=as_json)
            case "retry":
                try:
                    new = starting.retry(run, origin=Run.Origin.COMMAND, reason=reason)
                except NothingFailed as error:
                    self.nothing_to_do(str(error), as_json=as_json)
                else:
                    self._report_change(new, "started", as_json=as_json)

    def _find(self, number: int) -> Run:
        run = Run.objects.filter(pk=number).first()
        if run is None:
            raise UsageError(f"There is no run {number}.")
        return run

    def _list(self, *, as_json: bool) -> None:
        last = list(Run.objects.all()[:LISTED])
        counted = progress_of(last, with_ids=as_json)
        if as_json:
            self.print_json({"runs": [run_as_json(run, counted[run.pk]) for run in last]})
            return
        for run in last:
            progress = counted[run.pk]
            self.stdout.write(
                f"{run.pk:6} {run.created_at:%Y-%m-%d %H:%M} {run.kind:10} {run.state:9} "
                f"{done_of_total(progress)}: {counts(progress)} ({run.scope_text})"
            )

    def _show(self, run: Run, *, as_json: bool) -> None:
        progress = run.progress()
        if as_json:
            self.print_json(run_as_json(run, progress))
            return
        because = f": {run.pause_reason}" if run.pause_reason else ""
        self.stdout.write(f"{run} ({run.kind}, {run.scope_text}) is {run.state}{because}")
        self.stdout.write(f"{done_of_total(progress)}: {counts(progress)}")
        if warning := health.why_it_stands_still(run, health.queue_use(run)):
            self.stdout.write(warning)
        self.write_failures(progress)

    def _report_change(self, run: Run, participle: str, *, as_json: bool) -> None:
        if as_json:
            self.print_json(run_as_json(run, run.progress()))
        else:
            images = f"{run.total:,} image{pluralize(run.total)}"
            self.stdout.write(f"{run} is {participle}: {images}.")


class _Report:
    """Writes a run's report to standard output, and the progress of reading files to standard
    error."""

    def __init__(self, command: Command, run: Run, *, verify: bool) -> None:
        self._command = command
        self._stdout = command.stdout
        self._run = run
        self._verify = verify
        self._files: Counter[str] = Counter()
        """Number of images by what their files are like."""
        self._examples: list[str] = []

    def write(self, *, csv: bool, json: bool) -> None:
        """Raises CommandError (1) if a file that was looked at is not as recorded."""
        if self._verify:
            cache.check_folder()
        rows = self._rows()
        if csv:
            self._write_all(run_report.as_csv(rows, verified=self._verify))
        elif json:
            self._write_all(run_report.as_json(self._run, rows, verified=self._verify))
        else:
            self._summarize(rows)
        if wrong := self._files.total() - self._files[AS_RECORDED]:
            whose = "1 image has" if wrong == 1 else f"{wrong:,} images have"
            raise CommandError(f"{whose} files that are not as recorded.", returncode=FAILED)

    def _write_all(self, parts: Iterable[str]) -> None:
        for part in parts:
            self._stdout.write(part, ending="")

    def _rows(self) -> Iterator[ReportRow]:
        rows = run_report.rows(self._run, site=conf.current().site_url, verify=self._verify)
        with ProgressBar(self._run.total, unit="image", quiet=not self._verify) as bar:
            for number, row in enumerate(rows, start=1):
                if row.file:
                    self._note(row)
                if number % SHOWN_EVERY == 0:
                    bar.show(number, self._files.total() - self._files[AS_RECORDED])
                yield row

    def _note(self, row: ReportRow) -> None:
        self._files[row.file] += 1
        if row.file != AS_RECORDED and len(self._examples) < EXAMPLES:
            self._examples.append(printable(f"  {row.id} {row.name}: {row.file}"))

    def _summarize(self, rows: Iterator[ReportRow]) -> None:
        for line in run_report.sentences(self._run):
            self._stdout.write(line)
        if not self._verify:
            return
        for _ in rows:
            pass
        found = ", ".join(f"{number:,} {what}" for what, number in self._files.most_common())
        self._stdout.write(f"Files: {found or 'none'}.")
        for example in self._examples:
            self._stdout.write(example)

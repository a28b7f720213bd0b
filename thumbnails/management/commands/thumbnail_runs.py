"""Show runs, and cancel, resume or retry them."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from thumbnails.exceptions import NotDispatched, Reason, UsageError
from thumbnails.management.base import FAILED, RunCommand, counts, positive, run_as_json
from thumbnails.models import Run
from thumbnails.models.runs import progress_of
from thumbnails.upkeep.reports import health
from thumbnails.upkeep.reports.formatting import done_of_total
from thumbnails.upkeep.runs import control, starting

LISTED = 20


class Command(RunCommand):
    help = (
        "Show runs (list, show, watch), stop one (cancel), let the workers go on with it "
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

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"] or "list"
        as_json = bool(options.get("json"))
        if verb == "list":
            self._list(as_json=as_json)
            return
        run = self._find(options["run"])
        try:
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
                    new = starting.retry(run, origin=Run.Origin.COMMAND, reason=options["reason"])
                    self._report_change(new, "started", as_json=as_json)
        except NotDispatched as error:
            raise CommandError(str(error), returncode=FAILED) from error

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
            self.stdout.write(f"{run} is {participle}: {run.total:,} images.")

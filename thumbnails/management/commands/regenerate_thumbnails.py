"""Make thumbnails true: all that are missing, stale or failed, or a selection, or all anew."""

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from thumbnails.exceptions import UsageError
from thumbnails.management.base import (
    FAILED,
    INTERRUPTED,
    ProgressBar,
    RunCommand,
    add_dates,
    add_selection,
    positive,
    selection_from,
)
from thumbnails.models import Run
from thumbnails.upkeep import audit, crew, runs
from thumbnails.upkeep.selection import Selection

WAIT_SECONDS = 0.5


class Command(RunCommand):
    help = (
        "Render the thumbnails that are missing, stale or failed, in this process on all cores. "
        "Ctrl-C stops it cleanly, and the same command goes on where it stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_selection(parser)
        add_dates(parser)
        parser.add_argument("--force", action="store_true", help="render fresh ones anew, too")
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
        parser.add_argument(
            "--enqueue", action="store_true", help="let the queue's workers do it, and return"
        )
        parser.add_argument("--wait", action="store_true", help="with --enqueue: until it is done")
        parser.add_argument(
            "--workers", type=positive, metavar="N", help="processes (default: one a core)"
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["wait"] and not options["enqueue"]:
            raise UsageError("--wait goes with --enqueue: without it the command waits anyway.")
        if options["workers"] and options["enqueue"]:
            raise UsageError("--workers does not go with --enqueue, whose workers run already.")
        selection = selection_from(options)
        if options["dry_run"]:
            self._dry_run(selection, force=options["force"], as_json=options["json"])
        elif options["enqueue"]:
            self._enqueue(selection, options)
        else:
            run = runs.for_command(Run.Kind.REGENERATE, selection, force=options["force"])
            if run is None:
                self._nothing_to_do(as_json=options["json"])
            else:
                processes = options["workers"] or crew.available_cores()
                self.work(run, processes=processes, as_json=options["json"])

    def _dry_run(self, selection: Selection, *, force: bool, as_json: bool) -> None:
        plan = audit.plan(selection, force=force)
        by_state = {state.value: number for state, number in plan.items()}
        total = sum(by_state.values())
        if as_json:
            self.print_json({"dryRun": True, "total": total, "states": by_state})
            return
        kinds = ", ".join(f"{number:,} {state}" for state, number in by_state.items() if number)
        self.stdout.write(
            f"Would render {total:,} thumbnails ({kinds})." if total else "Nothing to do."
        )

    def _nothing_to_do(self, *, as_json: bool) -> None:
        if as_json:
            self.print_json({"run": None, "total": 0, "rendered": 0, "fresh": 0, "failed": 0})
        else:
            self.stdout.write("Nothing to do: every thumbnail is fresh.")

    def _enqueue(self, selection: Selection, options: dict[str, Any]) -> None:
        as_json = options["json"]
        try:
            run = runs.for_workers(Run.Kind.REGENERATE, selection, force=options["force"])
        except runs.NotDispatched as error:
            raise CommandError(str(error), returncode=FAILED) from error
        if run is None:
            self._nothing_to_do(as_json=as_json)
        elif options["wait"]:
            self._wait(run, as_json=as_json)
        elif as_json:
            self.report(run, run.progress(), as_json=True)
        else:
            self.stdout.write(f"{run} is enqueued: {run.total:,} images.")

    def _wait(self, run: Run, *, as_json: bool) -> None:
        try:
            with ProgressBar(run.total, unit="image", quiet=as_json) as bar:
                while run.state == Run.State.RUNNING:
                    time.sleep(WAIT_SECONDS)
                    bar.show_run(run.progress())
                    run.refresh_from_db()
        except KeyboardInterrupt:
            raise CommandError(
                f"No longer waiting; the workers go on with {run}.", returncode=INTERRUPTED
            ) from None
        self.report(run, run.progress(), as_json=as_json)

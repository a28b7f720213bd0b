"""Render thumbnails that are missing, stale or failed, of all images or a selection."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import pluralize

from thumbnails.exceptions import NotDispatched, UsageError
from thumbnails.management.base import (
    FAILED,
    ProgressBar,
    RunCommand,
    add_selection,
    positive,
    rate,
    selection_from,
)
from thumbnails.models import Run, State, recipes
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.upkeep.images.rescan import record_gone, rescan
from thumbnails.upkeep.runs import execute, planning, starting
from thumbnails.upkeep.selection.conditions import Selection


class Command(RunCommand):
    uses_cache = True
    help = (
        "Render the thumbnails that are missing, stale or failed, in this process on all cores. "
        "Ctrl-C stops it cleanly, and the same command goes on where it stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_selection(parser)
        parser.add_argument("--force", action="store_true", help="render fresh ones again, too")
        parser.add_argument(
            "--rescan",
            action="store_true",
            help="look first for originals that changed or are gone since they were imported",
        )
        parser.add_argument("--dry-run", action="store_true", help="only report what would be done")
        parser.add_argument(
            "--enqueue", action="store_true", help="let the queue's workers do it, and return"
        )
        parser.add_argument("--wait", action="store_true", help="with --enqueue: until it is done")
        parser.add_argument(
            "--workers", type=positive, metavar="N", help="processes (default: one a core)"
        )
        parser.add_argument(
            "--rate", type=rate, metavar="50/s", help="at most this many images a second"
        )
        parser.add_argument(
            "--ignore-space", action="store_true", help="start even if the disk seems too small"
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["wait"] and not options["enqueue"]:
            raise UsageError("--wait goes with --enqueue: without it the command waits anyway.")
        if options["workers"] and options["enqueue"]:
            raise UsageError("--workers does not go with --enqueue, whose workers run already.")
        selection = selection_from(options)
        as_json: bool = options["json"]
        assets = selection.assets()
        if not assets.exists():
            self.nothing_to_do(f"no images match: {selection}.", as_json=as_json)
            return
        if options["dry_run"]:
            plan = planning.plan(Run.Kind.REGENERATE, assets, force=options["force"])
            self.report_plan("render", plan, as_json=as_json)
            return
        recipes.announce()
        passed_over = self._rescan(assets, quiet=as_json) if options["rescan"] else ""
        run_options = {name: options[name] for name in ("force", "rate", "ignore_space")}
        self.stop.raise_if_asked()
        if options["enqueue"]:
            self._enqueue(selection, run_options, wait=options["wait"], as_json=as_json)
        elif run := starting.start_or_continue(Run.Kind.REGENERATE, selection, **run_options):
            processes = options["workers"] or execute.available_cores()
            self.work(run, processes=processes, as_json=as_json)
        else:
            self._all_fresh(assets, as_json=as_json)
        if passed_over:
            raise CommandError(passed_over, returncode=FAILED)

    def _rescan(self, assets: ImageAssetQuerySet, *, quiet: bool) -> str:
        """Returns why roots of originals were passed over. Raises CommandError (1) if all were, as
        if disks are missing: then nothing is started."""
        with ProgressBar(assets.count(), unit="original", quiet=quiet) as bar:
            found = rescan(assets, save=True, on_progress=bar.show)
        problems = found.problems()
        passed_over = " ".join(problems.values())
        if problems and len(problems) == len(found.roots):
            raise CommandError(passed_over, returncode=FAILED)
        self.stderr.write(
            f"{found.looked_at:,} originals: {len(found.changed):,} changed, "
            f"{record_gone(found):,} gone. {passed_over}".strip()
        )
        return passed_over

    def _all_fresh(self, assets: ImageAssetQuerySet, *, as_json: bool) -> None:
        accepted = assets.in_state(State.ACCEPTED).count()
        besides = (
            f", but for {accepted:,} accepted failure{pluralize(accepted)}" if accepted else ""
        )
        self.nothing_to_do(f"every thumbnail is fresh{besides}.", as_json=as_json)

    def _enqueue(
        self, selection: Selection, run_options: dict[str, Any], *, wait: bool, as_json: bool
    ) -> None:
        try:
            run = starting.start_on_queue(
                Run.Kind.REGENERATE, selection, origin=Run.Origin.COMMAND, **run_options
            )
        except NotDispatched as error:
            raise CommandError(str(error), returncode=FAILED) from error
        if run.total == 0:
            self._all_fresh(selection.assets(), as_json=as_json)
        elif wait:
            self.watch(run, as_json=as_json)
        elif as_json:
            self.report(run, run.progress(), as_json=True)
        else:
            self.stdout.write(f"{run} is enqueued: {run.total:,} images.")

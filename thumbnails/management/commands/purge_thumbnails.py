"""Delete thumbnails from the cache; they are rendered again on their next request."""

import sys
from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat, pluralize

from thumbnails.exceptions import UsageError
from thumbnails.management.base import RunCommand, add_selection, selection_from
from thumbnails.models import Run
from thumbnails.upkeep.runs import planning, starting

PROCESSES = 1  # deleting files waits for the disk and not for a core


class Command(RunCommand):
    uses_cache = True
    help = "Delete thumbnails from the cache and clear their record. The originals stay."

    def add_arguments(self, parser: CommandParser) -> None:
        add_selection(parser)
        parser.add_argument("--all", action="store_true", help="all of them")
        parser.add_argument("--dry-run", action="store_true", help="only report what would be done")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        selection = selection_from(options)
        selection.require_all_said(options["all"])
        plan = planning.plan(Run.Kind.PURGE, selection.assets())
        if plan.total == 0:
            self.nothing_to_do(f"no images match: {selection}.", as_json=options["json"])
            return
        if options["dry_run"]:
            self.report_plan("delete", plan, as_json=options["json"])
            return
        if not options["yes"] and not self._agreed(
            f"Delete {plan.deleted:,} thumbnail{pluralize(plan.deleted)} "
            f"({filesizeformat(plan.size_bytes)})?"
        ):
            self.stderr.write("Nothing was deleted.")
            return
        self.stop.raise_if_asked()
        run = starting.start_or_continue(Run.Kind.PURGE, selection)
        if run is not None:
            self.work(run, processes=PROCESSES, as_json=options["json"])

    def _agreed(self, question: str) -> bool:
        """Whether the answer is yes. Raises UsageError without a terminal to ask at."""
        if not sys.stdin.isatty():
            raise UsageError("There is no terminal to ask on: add --yes.")
        with self.stop.at_once():
            try:
                answer = input(f"{question} [y/N] ")
            except EOFError:  # Ctrl-D
                self.stderr.write("")
                return False
        return answer.strip().lower() in ("y", "yes")

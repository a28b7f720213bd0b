"""Accept that some originals cannot be rendered, so that runs skip them."""

from typing import Any

from django.core.management.base import CommandParser

from thumbnails.management.base import ThumbnailCommand, add_selection, selection_from
from thumbnails.models import State
from thumbnails.upkeep.images.acceptance import accept_failures, undo_acceptance
from thumbnails.upkeep.reports.formatting import acceptance


class Command(ThumbnailCommand):
    help = (
        "Accept failures: runs skip these images, until their originals change. A failure of a "
        "storage cannot be accepted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_selection(parser)
        parser.add_argument("--all", action="store_true", help="all of them")
        parser.add_argument(
            "--undo", action="store_true", help="let accepted failures count as failed again"
        )
        parser.add_argument("--dry-run", action="store_true", help="only report what would be done")
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        selection = selection_from(options)
        selection.require_all_said(options["all"], of="failures")
        assets, undo, dry_run = selection.assets(), options["undo"], options["dry_run"]
        if dry_run:
            number = (assets.in_state(State.ACCEPTED) if undo else assets.acceptable()).count()
        else:
            number = len(undo_acceptance(assets) if undo else accept_failures(assets))
        if options["json"]:
            self.print_json({"dryRun": dry_run, "undone" if undo else "accepted": number})
        elif number == 0:
            kind = "accepted failures" if undo else "failures"
            self.stdout.write(f"Nothing to do: no {kind} match: {selection}.")
        else:
            self.stdout.write(acceptance(number, undo=undo, is_planned=dry_run))

"""Record originals from files and folders."""

from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from thumbnails.management.base import FAILED, ProgressBar, ThumbnailCommand, printable
from thumbnails.upkeep.images import importing
from thumbnails.upkeep.images.importing import ImportOutcome


class Command(ThumbnailCommand):
    help = (
        "Record the pictures at or below PATH, recognized by their header and not by their name. A "
        "file under ORIGINALS_DIR is recorded where it lies, any other is copied there. Run again, "
        "it adds what is new and updates what has changed. Links that lead out of PATH are refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument(
            "--session", default="", metavar="NAME", help="put new ones into this session"
        )
        parser.add_argument(
            "--hidden",
            action="store_true",
            help="take files and folders below PATH whose names begin with a dot, too",
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        paths: list[Path] = options["paths"]
        as_json: bool = options["json"]
        with_hidden: bool = options["hidden"]
        total = sum(1 for _ in importing.find_files(paths, with_hidden=with_hidden))
        counted: Counter[ImportOutcome] = Counter()
        refused: list[importing.ImportResult] = []
        with ProgressBar(total, unit="file", quiet=as_json) as bar:
            files = importing.find_files(paths, with_hidden=with_hidden)
            results = importing.import_files(files, session=options["session"])
            for done, result in enumerate(results, start=1):
                counted[result.outcome] += 1
                if result.outcome == ImportOutcome.REFUSED:
                    refused.append(result)
                if done % 100 == 0 or done == total:
                    bar.show(done, len(refused))
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
            raise CommandError(f"{len(refused):,} refused.", returncode=FAILED)


def _summary(counted: Counter[ImportOutcome]) -> str:
    always_shown = [outcome for outcome in ImportOutcome if outcome != ImportOutcome.HIDDEN]
    parts = [f"{counted[outcome]:,} {outcome.value}" for outcome in always_shown]
    if hidden := counted[ImportOutcome.HIDDEN]:
        parts.append(f"{hidden:,} hidden passed over")
    return f"{', '.join(parts)}."

"""Compare database and cache, and clean up safely."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from thumbnails.management.base import FAILED, ProgressBar, ThumbnailCommand, share
from thumbnails.storage.names import SHARDS
from thumbnails.upkeep.reports.audit import SHARE_AT_MOST, Finding, Report, audit

DESCRIPTIONS = {
    Finding.ORPHAN: "thumbnails without an image, and variants that are not recorded",
    Finding.MISSING: "thumbnails that the database has and the cache does not",
    Finding.DAMAGED: "empty or damaged files",
    Finding.UNSTAMPED: "whole pictures that were not made here (never deleted; --adopt)",
    Finding.MISMATCHED: "files that are not those of the database, as from a backup",
    Finding.UNRECORDED: "files that the next render takes over or replaces",
    Finding.LEFTOVER: "temporary files whose writer died",
    Finding.FOREIGN: "foreign files, never touched",
    Finding.CHANGED: "images whose original has changed since it was imported",
    Finding.GONE: "images whose original is gone; their thumbnails stay",
}


class Command(ThumbnailCommand):
    uses_cache = True
    help = (
        "Find orphans, missing, damaged and mismatched thumbnails, and originals that changed or "
        "are gone. Exit status 1 if problems remain."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--fix",
            action="store_true",
            help="delete orphans, damaged and left-over files; mark what the next "
            "regenerate_thumbnails is to render",
        )
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="record whole pictures that another program made: they are served until the next "
            "regenerate_thumbnails renders them (--recipe unstamped selects them)",
        )
        parser.add_argument(
            "--originals", action="store_true", help="look at every original's size and time"
        )
        parser.add_argument("--deep", action="store_true", help="decode every file")
        parser.add_argument(
            "--allow-share",
            type=share,
            default=SHARE_AT_MOST,
            metavar="0.5",
            help="with --fix: up to this share of the files, of the records and of the originals "
            "may go (default: %(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        as_json: bool = options["json"]
        with ProgressBar(len(SHARDS), unit="shard", quiet=as_json) as bar:
            report = audit(
                fix=options["fix"],
                adopt=options["adopt"],
                deep=options["deep"],
                with_originals=options["originals"],
                allow_share=options["allow_share"],
                on_shard=bar.show,
            )
        if as_json:
            self.print_json(
                {
                    "files": report.files,
                    "found": report.found,
                    "examples": report.examples,
                    "fixed": report.fixed,
                    "adopted": report.adopted,
                    "refusal": report.refusal,
                    "errors": report.errors,
                }
            )
        else:
            self._write(report)
        if not report.is_clean:
            raise CommandError(report.refusal or "Problems remain.", returncode=FAILED)

    def _write(self, report: Report) -> None:
        for finding, number in report.found.items():
            if number == 0:
                continue
            self.stdout.write(f"{number:,} {DESCRIPTIONS[finding]}:")
            names = report.examples[finding]
            self.stdout.write("  " + ", ".join(names) + (" …" if number > len(names) else ""))
        for error in report.errors:
            self.stdout.write(error)
        fixed = f", {report.fixed:,} fixed" if report.fixed else ""
        fixed += f", {report.adopted:,} adopted" if report.adopted else ""
        self.stdout.write(
            f"{report.files:,} files, {sum(report.found.values()):,} findings{fixed}."
        )

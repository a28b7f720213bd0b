"""Find the images that share what is wrong with one."""

from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import pluralize
from django.urls import NoReverseMatch

from thumbnails import conf
from thumbnails.exceptions import UsageError
from thumbnails.management.base import ThumbnailCommand, positive, printable
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep.reports.alike import COUNTED_AT_MOST, Alike, facts_of, find_alike
from thumbnails.upkeep.runs import invocation


class Command(ThumbnailCommand):
    help = (
        "Show what an image's original shares with others, each with its number of images, and "
        "how to regenerate all that share what is chosen: by default what is most unusual."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=positive, metavar="ID", help="the image's id")
        parser.add_argument(
            "--by",
            metavar="orientation,format",
            help="choose these instead, by the names of the options that select images",
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        asset = ImageAsset.objects.filter(pk=options["id"]).first()
        if asset is None:
            raise UsageError(f"There is no image with the id {options['id']}.")
        by: str | None = options["by"]
        found = find_alike(asset, None if by is None else _chosen(asset, by))
        if options["json"]:
            self.print_json(_as_json(asset, found))
            return
        self.stdout.write(printable(f"What image {asset.pk}, {asset}, shares with others:"))
        for fact in found.facts:
            mark = "x" if fact.is_chosen else " "
            line = f"[{mark}] {fact.condition:12} {fact.number_text:>16}  {fact.words}"
            self.stdout.write(printable(line))
        if not found.facts:
            self.stdout.write("Nothing is known of it yet: rendering it reads its original.")
        elif found.selection.is_everything:
            self.stdout.write("Nothing about it is unusual: choose by --by what it shares.")
        else:
            self._report(found)

    def _report(self, found: Alike) -> None:
        share = f"share{pluralize(found.total, 's,')}"
        self.stdout.write(
            f"{found.total_text} image{pluralize(found.total)} {share} what is marked; "
            "--by chooses others."
        )
        for line in filter(None, (_plan_address(found), _command_line(found))):
            self.stdout.write(printable(line))


def _chosen(asset: ImageAsset, by: str) -> dict[str, str]:
    """Returns the texts of the named facts by condition. Raises UsageError for others."""
    texts: dict[str, str] = {}
    for fact in facts_of(asset):
        texts.setdefault(fact.condition, fact.text)  # of several sessions the newest
    names = [name.strip() for name in by.split(",")]
    for name in names:
        if name not in texts:
            raise UsageError(f"The image has no {name!r} to share, but {', '.join(texts)}.")
    return {name: texts[name] for name in names}


def _command_line(found: Alike) -> str:
    return invocation.command_line(Run.Kind.REGENERATE, found.selection, force=found.force)


def _plan_address(found: Alike) -> str | None:
    try:
        path = invocation.plan_path(Run.Kind.REGENERATE, found.selection, force=found.force)
    except NoReverseMatch:  # the project has no admin
        return None
    return f"{conf.current().site_url}{path}"


def _as_json(asset: ImageAsset, found: Alike) -> dict[str, Any]:
    is_chosen = not found.selection.is_everything
    return {
        "id": asset.pk,
        "name": str(asset),
        "facts": [
            {
                "condition": fact.condition,
                "value": fact.text,
                "words": fact.words,
                "chosen": fact.is_chosen,
                **_number(fact.number),
            }
            for fact in found.facts
        ],
        **_number(found.total),
        "plan": _plan_address(found) if is_chosen else None,
        "command": _command_line(found) if is_chosen else None,
    }


def _number(number: int) -> dict[str, Any]:
    return {"images": min(number, COUNTED_AT_MOST), "more": number > COUNTED_AT_MOST}

"""How staff start a run: by a command, or from its plan in the admin."""

from urllib.parse import urlencode

from django.urls import reverse

from thumbnails.models import Run
from thumbnails.upkeep.selection.conditions import Selection

COMMANDS = {
    Run.Kind.REGENERATE: "regenerate_thumbnails",
    Run.Kind.PURGE: "purge_thumbnails",
}


def command_line(kind: Run.Kind, selection: Selection, *, force: bool = False) -> str:
    """Returns the command that starts the run, with its options quoted for a shell."""
    options = selection.as_options()
    if kind == Run.Kind.PURGE and not options:
        options = "--all"
    words = ["manage.py", COMMANDS[kind], options, "--force" if force else ""]
    return " ".join(filter(None, words))


def plan_path(kind: Run.Kind, selection: Selection, *, force: bool = False) -> str:
    """Returns the path of the run's plan. Raises NoReverseMatch if the project has no admin."""
    query = {**selection.as_texts(), **({"force": "1"} if force else {})}
    path = reverse("admin:thumbnails_imageasset_plan", args=[kind])
    return f"{path}?{urlencode(query)}" if query else path

"""Durations and progress as text, for the admin and the commands."""

from django.template.defaultfilters import pluralize

from thumbnails.models.runs import Progress

UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def duration(seconds: float) -> str:
    """Returns it in the largest unit of which there are two or more: `90 seconds`, `3 hours`."""
    for size, unit in UNITS:
        if seconds >= 2 * size or size == 1:
            number = max(1, round(seconds / size))
            return f"{number} {unit}{'' if number == 1 else 's'}"
    raise AssertionError("the last unit takes all")


def done_of_total(progress: Progress) -> str:
    """Returns how much of a run is done: `1,200 of 5,000`."""
    return f"{progress.done:,} of {progress.total:,}"


def acceptance(number: int, *, undo: bool = False, is_planned: bool = False) -> str:
    """Returns a sentence on failures that are accepted, or with `undo` no longer are."""
    failures = f"{number:,} failure{pluralize(number)}"
    verb = "would be" if is_planned else pluralize(number, "is,are")
    if undo:
        return f"{failures} {verb} no longer accepted."
    until = pluralize(number, "original changes,originals change")
    return f"{failures} {verb} accepted, until the {until}."

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


def duration_between(at_least: float, at_most: float) -> str:
    """Returns a range of seconds, in the largest unit of which the greater one has two or
    more: `about 3 to 5 minutes`, `up to 2 hours`."""
    size, unit = next(each for each in UNITS if at_most >= 2 * each[0] or each[0] == 1)
    low, high = round(at_least / size), max(1, round(at_most / size))
    span = f"about {high if low == high else f'{low} to {high}'}" if low else f"up to {high}"
    return f"{span} {unit}{'' if high == 1 else 's'}"


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

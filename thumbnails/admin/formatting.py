"""Numbers and users as text, for the admin's pages and lists."""

from typing import TYPE_CHECKING

from django.contrib.humanize.templatetags.humanize import intcomma

from thumbnails.exceptions import Reason
from thumbnails.models import Run
from thumbnails.models.runs import Progress
from thumbnails.upkeep.reports.formatting import done_of_total, duration

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def throughput(run: Run, progress: Progress) -> str:
    """Returns the run's rate, and the time left while it runs; empty if neither is known."""
    words = []
    if progress.rate is not None:
        words.append(_rate(progress.rate))
    left = progress.seconds_left
    if run.state == Run.State.RUNNING and left:
        words.append(f"about {duration(left)} left")
    return ", ".join(words)


def _rate(images_a_second: float) -> str:
    if images_a_second < 1:
        return f"{images_a_second * 60:.1f} images a minute"
    number = f"{images_a_second:.1f}" if images_a_second < 10 else intcomma(round(images_a_second))
    return f"{number} images a second"


def counts(progress: Progress) -> str:
    """Returns how much of a run is done and how many failed, if any."""
    failed = f", {intcomma(progress.failed)} failed" if progress.failed else ""
    return f"{done_of_total(progress)}{failed}"


def person(user: "User | None") -> str:
    """Returns the user's name; a dash for None, which is a command or the site itself."""
    if user is None:
        return "–"
    # Not every user model has full names.
    full_name = getattr(user, "get_full_name", str)()
    return full_name or user.get_username()


def reason_label(value: str) -> str:
    """Returns the label of a failure's reason; one that the site no longer knows as it is."""
    return Reason(value).label if value in [*Reason] else value

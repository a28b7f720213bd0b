"""How long a run will take, by earlier runs or by what a preview took, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thumbnails.models import Run, RunEvent
from thumbnails.models.runs import progress_of

LOOKED_THROUGH, MEASURED = 20, 5
"""The last runs that are looked through, and how many of them an estimate is by."""
SIMILAR = 4
"""Runs are of similar size up to this factor."""
ENOUGH = 500
"""With that many images a run tells the rate of larger ones, too: of a smaller one its start takes
much of the time."""
MARGIN, PREVIEW_MARGIN = 1.25, 1.6
"""An estimate is from the fastest measured to the slowest, with this factor to either side."""
START_SECONDS = 2.0
"""Until workers begin, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The time that a run will take, in seconds."""

    at_least: float
    at_most: float

    @property
    def seconds(self) -> float:
        """One number for both."""
        return math.sqrt(self.at_least * self.at_most)


def by_runs(kind: Run.Kind, total: int) -> Estimate | None:
    """Returns the estimate for a run over `total` images, by the last runs of similar size.

    Without any, by those of ENOUGH images; None without these, too.
    """
    rates = _measured(kind, total)
    similar = [seconds for worked, seconds in rates if worked <= total * SIMILAR]
    found = (similar or [seconds for _, seconds in rates])[:MEASURED]
    return _estimate(min(found), max(found), total, MARGIN) if found else None


def by_preview(took: Sequence[tuple[float, float]], total: int, workers: int) -> Estimate | None:
    """Returns the estimate for a run over `total` images, by the renders of a preview.

    `took` are the seconds that each took, and the number of images that it stands for. None if
    there are too few.
    """
    rest = took[1:]  # the first one may have waited for its render process to start
    stood_for = sum(number for _, number in rest)
    if not stood_for:
        return None
    mean = sum(seconds * number for seconds, number in rest) / stood_for / max(1, workers)
    return _estimate(mean, mean, total, PREVIEW_MARGIN)


def _measured(kind: Run.Kind, total: int) -> list[tuple[int, float]]:
    """The number of images of runs that are large enough, and the seconds that each took, the last
    run first."""
    at_least = max(1, min(total / SIMILAR, ENOUGH))
    resumed = RunEvent.objects.filter(kind=RunEvent.Kind.RESUMED).values("run")
    done = Run.objects.filter(kind=kind, state=Run.State.DONE, rate=None, total__gte=at_least)
    last = list(done.exclude(pk__in=resumed).order_by("-finished_at")[:LOOKED_THROUGH])
    counted = progress_of(last, with_ids=False)
    found = []
    for run in last:
        progress = counted[run.pk]
        worked = progress.done - progress.fresh - progress.accepted
        if run.finished_at and worked >= at_least:
            found.append((worked, (run.finished_at - run.created_at).total_seconds() / worked))
    return found


def _estimate(fastest: float, slowest: float, total: int, margin: float) -> Estimate:
    return Estimate(
        at_least=total * fastest / margin, at_most=total * slowest * margin + START_SECONDS
    )

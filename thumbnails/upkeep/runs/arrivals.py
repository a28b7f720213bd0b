"""Rendering what a command has imported, with THUMBNAIL_EAGER."""

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from thumbnails import conf
from thumbnails.exceptions import NotDispatched, QueueDown, UsageError
from thumbnails.models import Run, State
from thumbnails.upkeep import queue
from thumbnails.upkeep.images.arrival import ids_of
from thumbnails.upkeep.runs.starting import start_on_queue
from thumbnails.upkeep.selection.conditions import Selection

logger = logging.getLogger(__name__)

AT_ONCE = Run.LARGE
"""If more images are new, a run renders them, which what is urgent overtakes."""
BATCH = 500
"""Images whose ids take one query."""


class Result(Protocol):
    """What became of a file or row."""

    @property
    def original(self) -> str:
        """The name of the original."""

    @property
    def is_new(self) -> bool:
        """Whether its image was added."""

    @property
    def has_changed(self) -> bool:
        """Whether its image was added, or has another original than before."""


R = TypeVar("R", bound=Result)


class Arrivals:
    """Collects what arrives, in constant memory.

    Does nothing if THUMBNAIL_EAGER is off, or in a dry run.
    """

    def __init__(self, *, dry_run: bool = False) -> None:
        self._is_wanted = conf.current().eager and not dry_run
        self._few: list[int] = []
        self._added = 0
        self._first = self._last = 0
        """The lowest and the highest id of what was added."""
        self._waiting: dict[bool, list[str]] = {True: [], False: []}
        """Originals of which the ids are not known yet, of new images and of others."""

    def note(self, results: Iterable[R]) -> Iterator[R]:
        """Yields the results of an import."""
        for result in results:
            yield result
            if self._is_wanted and result.has_changed:
                names = self._waiting[result.is_new]
                names.append(result.original)
                if len(names) >= BATCH:
                    self._find(are_new=result.is_new)

    def render(self) -> Run | None:
        """Have the workers render them. To be called after the commit.

        Returns the run, if it takes one. What cannot be handed over is logged, and stays missing
        or stale until its next request or a run.
        """
        self._find(are_new=True)
        self._find(are_new=False)
        try:
            queue.enqueue_refresh(self._few)
        except QueueDown as error:
            logger.warning("%s", error)
        return self._start() if self._added > AT_ONCE else None

    def _find(self, *, are_new: bool) -> None:
        names, self._waiting[are_new] = self._waiting[are_new], []
        ids = ids_of(names) if names else []
        self._few += ids[: AT_ONCE - len(self._few)]
        if are_new and ids:
            self._added += len(ids)
            self._first = min(self._first or ids[0], *ids)
            self._last = max(self._last, *ids)

    def _start(self) -> Run | None:
        missing = Selection(id_ranges=((self._first, self._last),), states=(State.MISSING,))
        try:
            return start_on_queue(
                Run.Kind.REGENERATE,
                missing,
                origin=Run.Origin.COMMAND,
                note="New images (THUMBNAIL_EAGER).",
            )
        except NotDispatched as error:
            logger.warning("%s", error)
            return error.run
        except UsageError as error:
            logger.warning("The new images are not rendered at once: %s", error)
            return None

"""A process that works on chunks and nothing else: it may be stopped or die of a picture."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from uuid import UUID, uuid4

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import QuerySet

from thumbnails import conf
from thumbnails.models import Chunk, Run
from thumbnails.models.runs import LEASE
from thumbnails.upkeep.outage import outlasting_outages

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
"""How often at most it looks whether the run was paused or cancelled: after each photo, and not
after each of many small pictures, where looking would cost more than a hundredth of the time."""
RENEW_SECONDS = LEASE.total_seconds() / 4
NICENESS = 10
"""Of processes that work on a large run: the site's own requests come first."""

PROCESS_NAME = "THUMBNAILS_PROCESS"


def name_next_process() -> UUID:
    """A token for the process that is forked next: it claims its chunks by it."""
    token = uuid4()
    os.environ[PROCESS_NAME] = str(token)
    return token


def give_up(token: UUID) -> int:
    """Its process died: what it had claimed is open again at once. Gives the number of chunks."""
    return Chunk.objects.give_up(token)


class Labour:
    """Where a chunk is worked on. This one is any process: nothing watches over it."""

    def should_stop(self) -> bool:
        """To be asked between two pictures."""
        return False

    @contextmanager
    def at(self, chunk: Chunk) -> Iterator[None]:
        """Keeps the chunk while the block runs."""
        yield

    @contextmanager
    def one_picture(self) -> Iterator[None]:
        """Ends the process if the block takes too long."""
        yield


class OwnProcess(Labour):
    """A process of its own: a queue worker's horse, or one of a command's crew.

    SIGTERM, the end of its parent, and a run that is no longer running make it stop after its
    picture. A picture that takes longer than THUMBNAIL_RENDER_SECONDS kills it: the alarm is the
    kernel's, so it rings however deep a decoder hangs.
    """

    def __init__(self) -> None:
        named = os.environ.get(PROCESS_NAME)
        self.token = UUID(named) if named else uuid4()
        self._parent = os.getppid()
        self._told_to_stop = False
        self._run: QuerySet[Run] | None = None
        self._look_at = 0.0
        self._lost = threading.Event()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True

    def should_stop(self) -> bool:
        if self._told_to_stop or self._lost.is_set() or os.getppid() != self._parent:
            return True
        if self._run is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            return not outlasting_outages(self._run.exists)
        return False

    @contextmanager
    def at(self, chunk: Chunk) -> Iterator[None]:
        self._lost = threading.Event()
        if chunk.run.is_large:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        self._run = Run.objects.running().filter(pk=chunk.run_id)
        done = threading.Event()
        attendant = threading.Thread(target=self._attend, args=(chunk, done), daemon=True)
        attendant.start()
        try:
            yield
        finally:
            done.set()
            attendant.join()

    def _attend(self, chunk: Chunk, done: threading.Event) -> None:
        """Renew the lease, however long one picture takes."""
        try:
            while not done.wait(RENEW_SECONDS):
                try:
                    if not chunk.renew():
                        self._lost.set()
                except DatabaseError:
                    # It is away for a while: whoever works here will notice as well.
                    logger.warning("The database did not answer while at %s", chunk)
                    connection.close()
        finally:
            connection.close()

    @contextmanager
    def one_picture(self) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, conf.current().render_seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

"""The queue's worker, made to outlive what happens during a long run.

Django-rq starts it where the site's settings say `RQ = {"WORKER_CLASS":
"thumbnails.workers.ThumbnailWorker"}`. It does other apps' jobs as rq's own worker does.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from django.db import Error as DatabaseError
from django.db import connections
from PIL import Image
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.worker import Worker

from thumbnails.upkeep import labour, tending
from thumbnails.upkeep.queue import QueueDown

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5
"""How often it looks up from waiting for a job and from watching over its horse."""


class ThumbnailWorker(Worker):
    """Tends the runs, gives up the chunk of its horse when that dies, and stops soon.

    - After a crash rq gives a job to another worker after 813 s. Here the chunks' leases decide,
      and any worker hands out again what is open.
    - rq's worker quits when the queue's server goes away while a job runs; this one goes on.
    - SIGTERM makes the horse stop after its picture, not at the end of its job.
    """

    max_connection_wait_time = LOOK_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.job_monitoring_interval = LOOK_SECONDS
        Image.preinit()  # loads the decoders once, and not in each horse anew
        self._tend_at = 0.0
        self._token = uuid4()

    @property
    def dequeue_timeout(self) -> int:
        return LOOK_SECONDS

    # --- while idle and while a horse works -------------------------------------------------------

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        with _queue_may_be_away():
            if not self.connection.exists(self.key):
                self.register_birth()  # the server came back without its data
            super().heartbeat(timeout)
            self._tend()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        with _queue_may_be_away():
            super().maintain_heartbeats(job, execution)
            self._tend()

    def _tend(self) -> None:
        if time.monotonic() < self._tend_at:
            return
        self._tend_at = time.monotonic() + tending.TEND_SECONDS
        try:
            tending.tend()
            tending.count()
        except (QueueDown, DatabaseError) as error:
            logger.warning("The runs cannot be tended: %s", error)
        finally:
            connections.close_all()  # a horse forked later must not speak through them

    # --- the horse --------------------------------------------------------------------------------

    def execute_job(self, job: Job, queue: Queue) -> None:
        with _queue_may_be_away():
            super().execute_job(job, queue)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        self._token = labour.name_next_process()
        super().fork_work_horse(job, queue)

    def handle_work_horse_killed(
        self, job: Job, retpid: int | None, ret_val: int | None, rusage: Any
    ) -> None:
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)
        with suppress(DatabaseError):
            labour.give_up(self._token)
        connections.close_all()
        self._tend_at = 0.0

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()
        # Until the job says what it means: rq's own horse never gets it from its worker.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    # --- states that nobody waits for -------------------------------------------------------------

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        with _queue_may_be_away():
            super().set_state(state, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        with _queue_may_be_away():
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        with _queue_may_be_away():
            super().run_maintenance_tasks()


@contextmanager
def _queue_may_be_away() -> Iterator[None]:
    """rq's own loop waits for it to come back; elsewhere rq would quit."""
    try:
        yield
    except RedisError as error:
        logger.warning("The queue cannot be reached: %s", error)

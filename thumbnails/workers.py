"""The RQ worker class, for `RQ = {"WORKER_CLASS": "thumbnails.workers.ThumbnailWorker"}`.

Jobs of other apps run as in rq's own worker.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.worker import Worker, WorkerStatus

from thumbnails.exceptions import QueueDown
from thumbnails.models import recipes
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep import cdn
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.queue import PURGE_CDN, REFRESH_ASSETS, WORK_CHUNK
from thumbnails.upkeep.reports import counts, run_mail
from thumbnails.upkeep.runs import execute, recovery

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5
"""How often it sends a heartbeat and recovers runs, while idle and while a job runs."""


class ThumbnailWorker(Worker):
    """Works on chunks and assets in its own process, recovers runs, and shuts down quickly.

    - An image can kill only the render process that decodes it. So our jobs are not forked, which
      would cost more than a small chunk; other apps' jobs are.
    - After a crash rq reassigns a job after 813 s. Here the chunks' leases decide, and any worker
      enqueues open chunks again.
    - rq's worker quits if Redis goes away while a job runs; this one continues.
    - SIGTERM stops it after the current image, not at the end of the job.
    """

    max_connection_wait_time = LOOK_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.job_monitoring_interval = LOOK_SECONDS
        self._recover_at = 0.0

    @property
    def dequeue_timeout(self) -> int:
        return LOOK_SECONDS

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """As rq's. Raises ImproperlyConfigured if the cache's folder is not safe."""
        cache.check_folder()
        return bool(super().work(*args, **kwargs))

    # --- while idle and while a job is done -------------------------------------------------------

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        with _queue_may_be_away():
            if not self.connection.exists(self.key):
                self.register_birth()  # Redis was restarted without its data
            super().heartbeat(timeout)
            self._recover_runs()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        with _queue_may_be_away():
            super().maintain_heartbeats(job, execution)
            self._recover_runs()

    def _recover_runs(self) -> None:
        if time.monotonic() < self._recover_at:
            return
        self._recover_at = time.monotonic() + recovery.RECOVER_SECONDS
        try:
            recipes.announce()
            recovery.recover_runs()
            cdn.enqueue_in_turn()
            counts.count_in_turn()
            run_mail.send_next()
        except (QueueDown, DatabaseError) as error:
            logger.warning("Runs cannot be recovered: %s", error)
        finally:
            connections.close_all()  # a process forked later must not share them

    # --- jobs -------------------------------------------------------------------------------------

    def execute_job(self, job: Job, queue: Queue) -> None:
        with _queue_may_be_away():
            if job.func_name in (WORK_CHUNK, REFRESH_ASSETS, PURGE_CDN):
                self._execute_here(job, queue)
            else:
                super().execute_job(job, queue)

    def _execute_here(self, job: Job, queue: Queue) -> None:
        """As in rq's SimpleWorker, with heartbeats while the job runs."""
        execution = self.prepare_execution(job)
        done = threading.Event()

        def beat() -> None:
            while not done.wait(LOOK_SECONDS):
                self.maintain_heartbeats(job, execution)

        heartbeats = threading.Thread(target=beat, daemon=True)
        heartbeats.start()
        try:
            self.perform_job(job, queue, execution)
        finally:
            done.set()
            heartbeats.join()
            connections.close_all()
            self.set_state(WorkerStatus.IDLE)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        pools.close_all()  # the fork must not share their connections
        super().fork_work_horse(job, queue)

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()
        execute.stopping.set()

    # --- states that need no answer ---------------------------------------------------------------

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
    """Log that the queue is down instead of quitting; rq's main loop waits for it to return."""
    try:
        yield
    except RedisError as error:
        logger.warning("The queue cannot be reached: %s", error)

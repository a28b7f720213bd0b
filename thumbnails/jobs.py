"""RQ job functions; they take ids only."""

from thumbnails.upkeep.runs import execute


def work_chunk(chunk_id: int) -> None:
    execute.work_job(chunk_id)

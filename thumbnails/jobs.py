"""The queue's door: what workers are told to do, by ids only."""

from thumbnails.upkeep import runs
from thumbnails.upkeep.labour import OwnProcess


def work_chunk(chunk_id: int) -> None:
    """In a work horse: a process of its own, which may be stopped and may die."""
    process = OwnProcess()
    runs.work_chunk(chunk_id, token=process.token, labour=process)

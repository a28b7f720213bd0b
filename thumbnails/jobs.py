"""The queue's door: what workers are told to do, by ids only."""

from thumbnails.upkeep import runs


def work_chunk(chunk_id: int) -> None:
    runs.work_chunk(chunk_id)

"""RQ job functions; they take ids only."""

from thumbnails.upkeep import cdn
from thumbnails.upkeep.images import background
from thumbnails.upkeep.runs import execute


def work_chunk(chunk_id: int) -> None:
    execute.work_job(chunk_id)


def refresh_assets(asset_ids: list[int]) -> None:
    background.refresh_assets(asset_ids, should_stop=execute.stopping.is_set)


def purge_cdn() -> None:
    cdn.purge(execute.stopping.is_set)

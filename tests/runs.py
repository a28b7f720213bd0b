"""Runs for tests, started as admin and commands start them, and worked on in this process."""

from __future__ import annotations

from uuid import UUID, uuid4

from django.contrib.auth.models import User

from thumbnails import jobs
from thumbnails.models import Chunk, ImageAsset, Run
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.rendering.pool import RenderPool
from thumbnails.upkeep.images import pools
from thumbnails.upkeep.runs import starting


def start_run(
    assets: ImageAssetQuerySet | None = None,
    *,
    kind: Run.Kind = Run.Kind.REGENERATE,
    origin: Run.Origin = Run.Origin.ADMIN,
    force: bool = False,
    leased: bool = False,
    by: User | None = None,
    note: str = "",
    rate: float | None = None,
) -> Run:
    """Start a run over these images, all without any, and hand it to the workers.

    Raises what `starting.start` does.
    """
    scope = None if assets is None else {"ids": list(assets.values_list("pk", flat=True))}
    return starting.start(
        kind,
        ImageAsset.objects.all() if assets is None else assets,
        origin=origin,
        scope=scope,
        scope_text="all images" if assets is None else "some images",
        force=force,
        leased=leased,
        by=by,
        note=note,
        rate=rate,
    )


def start_here(
    kind: Run.Kind = Run.Kind.REGENERATE,
    assets: ImageAssetQuerySet | None = None,
    *,
    force: bool = False,
) -> Run:
    """Start a run as a command does: no worker is told, so that the test works on it."""
    return start_run(assets, kind=kind, origin=Run.Origin.COMMAND, force=force, leased=True)


def work(run: Run) -> None:
    """Work on all open chunks of the run in this process, and refresh it."""
    for chunk in run.chunks.all():
        jobs.work_chunk(chunk.pk)
    run.refresh_from_db()


def claim(chunk_id: int, token: UUID | None = None) -> Chunk | None:
    """Claim the chunk as a worker of the run's recipe does."""
    chunk = Chunk.objects.get(pk=chunk_id)
    return Chunk.objects.claim(chunk_id, token or uuid4(), recipe=chunk.run.recipe)


def pool_for(_: Run) -> RenderPool:
    return pools.worker_pool(large=False)

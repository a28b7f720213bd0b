"""The bookkeeping of runs, and an audit."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.meters import cpu_milliseconds, metered
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure, Site
from thumbnails.models import Chunk, ImageAsset, Run, recipe_in_force
from thumbnails.rendering.pool import RenderPool
from thumbnails.rendering.render import render
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import freshness, importing, pools
from thumbnails.upkeep.reports.audit import audit
from thumbnails.upkeep.runs import execute, starting

BOOKKEEPING_BOUND = Bound(at_most=5)
AUDIT_BOUND = Bound(at_most=10)
SAME_VERSION = "1-1"
CHUNKS = 32
"""How many of the run's are measured: half of them are representative."""


def measure(
    here: Site, small: Sequence[Path], *, pictures: int, files: int, judged: bool
) -> Section:
    """With this process's own site, whose images are deleted."""
    rows = [
        _bookkeeping(here, small, pictures, judged=judged),
        _audit(here, small[0], files, judged=judged),
    ]
    return Section(title="Runs", rows=rows)


def _bookkeeping(here: Site, small: Sequence[Path], count: int, *, judged: bool) -> Row:
    """Each chunk once as in a run and once image by image, without recording anything.

    In alternating order. CPU of this process and of its render process.
    """
    empty(here)
    here.add_originals(small, count=count)
    for _ in importing.import_files(importing.find_files([here.originals])):
        pass
    assets = ImageAsset.objects.in_bulk()
    run = starting.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.COMMAND,
        scope_text="all",
        leased=True,
    )
    pool = pools.worker_pool(large=False)
    freshness.refresh(next(iter(assets.values())), pool)  # starts its process
    with_run = alone = 0.0
    chunks = list(run.chunks.order_by("number")[:CHUNKS])
    pictures = sum(len(chunk.asset_ids) for chunk in chunks)
    with metered() as usage:
        for number, chunk in enumerate(chunks):
            of_chunk = [assets[asset_id] for asset_id in chunk.asset_ids]
            as_run, bare = partial(_work, chunk, pool), partial(_refresh, of_chunk, pool)
            acts = (bare, as_run) if number % 2 else (as_run, bare)
            cpu = {act: _uncached(act, of_chunk) for act in acts}
            with_run += cpu[as_run]
            alone += cpu[bare]
    if run.progress().rendered != pictures:
        raise NothingToMeasure(f"The run ended with {run.progress()}.")
    return Row(
        key="running.bookkeeping_percent",
        label=f"bookkeeping of a run over {run.total:,} small pictures",
        value=(with_run / alone - 1) * 100,
        unit="% CPU",
        bound=BOOKKEEPING_BOUND,
        judged=judged,
        # Saves and checks are timed: a slower machine does more of them.
        note=f"{with_run / pictures:.2f} ms a picture with it, {alone / pictures:.2f} without; "
        f"others kept {usage.others_cores:.2f} cores busy",
    )


def _uncached(act: Callable[[], object], assets: Iterable[ImageAsset]) -> float:
    """Milliseconds of CPU with the thumbnails deleted before."""
    for asset in assets:
        cache.delete(asset.thumbnail_name)
    return cpu_milliseconds(act)


def _work(chunk: Chunk, pool: RenderPool) -> None:
    execute.work_chunk(chunk.pk, lambda _: pool)


def _refresh(assets: Iterable[ImageAsset], pool: RenderPool) -> None:
    for asset in assets:
        freshness.refresh(asset, pool)


def _audit(here: Site, original: Path, files: int, *, judged: bool) -> Row:
    """With the same thumbnail for all images, which have the same source version."""
    empty(here)
    recipe = recipe_in_force()
    with original.open("rb") as file:
        made = render(file, recipe, fingerprint=recipe.fingerprint(SAME_VERSION), max_pixels=10**9)
    ImageAsset.objects.bulk_create(
        (
            ImageAsset(
                original=f"{number}.jpg",
                source_version=SAME_VERSION,
                thumbnail_bytes=len(made.content),
                thumbnail_recipe=recipe.digest,
                thumbnail_source=SAME_VERSION,
            )
            for number in range(files)
        ),
        batch_size=500,
    )
    assets = list(ImageAsset.objects.all())
    for asset in assets:
        asset.thumbnail_path = asset.thumbnail_name
        file_path = here.thumbnails / asset.thumbnail_path
        file_path.parent.mkdir(parents=True, exist_ok=True)
        file_path.write_bytes(made.content)
    ImageAsset.objects.bulk_update(assets, ["thumbnail_path"], batch_size=500)
    with metered() as usage:
        report = audit()
    if not report.is_clean or report.files != files:
        raise NothingToMeasure(f"The audit found {report}.")
    return Row(
        key="running.audit_cpu_seconds",
        label=f"audit of {files:,} files",
        value=usage.cpu_seconds,
        unit="s CPU",
        bound=AUDIT_BOUND,
        judged=judged,
    )


def empty(here: Site) -> None:
    """Delete all images and runs of this process's own site."""
    Run.objects.all().delete()
    ImageAsset.objects.all().delete()
    for folder in (here.originals, here.thumbnails):
        shutil.rmtree(folder, ignore_errors=True)

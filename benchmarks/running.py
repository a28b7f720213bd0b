"""What runs cost beside rendering: their bookkeeping, and an audit."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from django.utils import timezone

from benchmarks.meters import cpu_milliseconds, metered
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure, Site
from thumbnails.models import ImageAsset, Run, recipe_in_force
from thumbnails.rendering import render
from thumbnails.upkeep import freshness, intake, runs
from thumbnails.upkeep.audit import audit

BOOKKEEPING_BOUND = Bound(at_most=5)
AUDIT_BOUND = Bound(at_most=10)
SAME_VERSION = "1-1"


def measure(
    here: Site, small: Sequence[Path], *, pictures: int, files: int, judged: bool
) -> Section:
    """On this process's own site, whose images go."""
    rows = [
        _bookkeeping(here, small, pictures, judged=judged),
        _audit(here, small[0], files, judged=judged),
    ]
    return Section(title="Runs", rows=rows)


def _bookkeeping(here: Site, small: Sequence[Path], count: int, *, judged: bool) -> Row:
    """Chunk by chunk once as a run does it and once picture by picture, with nothing recorded."""
    _empty(here)
    here.add_originals(small, count=count)
    for _ in intake.import_files(intake.find_files([here.originals])):
        pass
    assets = ImageAsset.objects.in_bulk()
    run = runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.COMMAND,
        scope_text="all",
        attended=True,
    )
    with_run = alone = 0.0
    for chunk in run.chunks.all():
        with_run += cpu_milliseconds(partial(runs.work_chunk, chunk.pk))
        again = partial(freshness.refresh, rendered_since=timezone.now())
        of_chunk = [assets[asset_id] for asset_id in chunk.asset_ids]
        alone += cpu_milliseconds(partial(_do_all, again, of_chunk))
    if run.progress().rendered != run.total:
        raise NothingToMeasure(f"The run ended with {run.progress()}.")
    return Row(
        key="running.bookkeeping_percent",
        label=f"bookkeeping of a run over {run.total:,} small pictures",
        value=(with_run / alone - 1) * 100,
        unit="% CPU",
        bound=BOOKKEEPING_BOUND,
        judged=judged,
        note=f"{with_run / run.total:.2f} ms a picture with it, {alone / run.total:.2f} without",
    )


def _do_all(act: Callable[[ImageAsset], object], assets: Sequence[ImageAsset]) -> None:
    for asset in assets:
        act(asset)


def _audit(here: Site, original: Path, files: int, *, judged: bool) -> Row:
    """Of one thumbnail, linked as often as there are images of the same source version."""
    _empty(here)
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


def _empty(here: Site) -> None:
    Run.objects.all().delete()
    ImageAsset.objects.all().delete()
    for folder in (here.originals, here.thumbnails):
        shutil.rmtree(folder, ignore_errors=True)

"""The equation that holds at the end of every run, whatever happened on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from io import StringIO
from pathlib import Path

from django.core.management import CommandError, call_command

from tests import pictures
from tests.waiting import wait_for
from thumbnails.exceptions import Reason
from thumbnails.models import Chunk, ImageAsset, Run, State
from thumbnails.models.runs import Progress
from thumbnails.rendering import read_stamp
from thumbnails.storage.names import name_for
from thumbnails.upkeep.reports import run_report

GENEROUS_SECONDS = 120.0


def wait_until_done(
    run: Run, state: Run.State = Run.State.DONE, *, patience_seconds: float = GENEROUS_SECONDS
) -> None:
    """Return when the run is in that state; `run` is then up to date."""

    def is_there() -> bool:
        run.refresh_from_db()
        return run.state == state

    wait_for(is_there, f"{run} to be {state}", patience_seconds, interval_seconds=0.1)


def run_of_command() -> Run:
    """The command's run, as soon as there is one."""
    of_command = Run.objects.filter(origin=Run.Origin.COMMAND)
    wait_for(of_command.exists, "the command's run")
    return of_command.get()


def wait_until_idle(run: Run) -> None:
    """Return when no process works on it any more and all results are saved."""

    def is_idle() -> bool:
        return not run.chunks.filter(lease_until__isnull=False).exists()

    wait_for(is_idle, f"no process to work on {run}", GENEROUS_SECONDS, interval_seconds=0.1)
    run.refresh_from_db()


def check(
    run: Run,
    thumbnail_dir: Path,
    *,
    failed: Mapping[Reason, Collection[int]] | None = None,
    writers_were_killed: bool = False,
) -> None:
    """Every asset of the run is accounted for once, and what the database says is true.

    `failed`: those that shall have failed, and none else has. Where `writers_were_killed` they
    may have left temporary files, which the audit finds and deletes.
    """
    run.refresh_from_db()
    chunks = list(run.chunks.order_by("number"))
    progress = run.progress()
    expected = {reason.value: sorted(ids) for reason, ids in (failed or {}).items() if ids}
    assert run.state == Run.State.DONE
    assert {reason: sorted(ids) for reason, ids in progress.failures.items()} == expected
    assert progress.rendered + progress.fresh + progress.failed == progress.done == run.total
    assert run.total == len({asset_id for chunk in chunks for asset_id in chunk.asset_ids})
    for chunk in chunks:
        _check_chunk(chunk)
    _check_report(run, progress)
    ids = [asset_id for chunk in chunks for asset_id in chunk.asset_ids]
    failed_ids = {asset_id for ids in expected.values() for asset_id in ids}
    _check_assets(ids, failed_ids, thumbnail_dir)
    if writers_were_killed:
        _audit(fix=True)
    _check_cache(thumbnail_dir)
    _audit()


def _check_chunk(chunk: Chunk) -> None:
    size = len(chunk.asset_ids)
    assert chunk.position == size, chunk
    assert chunk.rendered + chunk.fresh + chunk.failed == size, chunk
    assert sum(len(ids) for ids in chunk.failures.values()) == chunk.failed, chunk
    assert chunk.finished_at is not None, chunk
    assert chunk.lease_until is None, chunk


def _check_report(run: Run, progress: Progress) -> None:
    """What is recorded of each image adds up to what was counted."""
    rows = list(run_report.rows(run))
    outcomes = Counter(row.outcome for row in rows)
    assert outcomes == {outcome: n for outcome, n in progress.outcomes.items() if n}
    assert all(row.new_fingerprint for row in rows if row.outcome != "failed")


def _check_assets(ids: list[int], failed_ids: set[int], thumbnail_dir: Path) -> None:
    assets = ImageAsset.objects.in_bulk(ids)
    assert len(assets) == len(ids)
    for asset in assets.values():
        if asset.pk in failed_ids:
            assert asset.state == State.FAILED, asset
            continue
        assert asset.state == State.FRESH, asset
        assert asset.thumbnail_path == name_for(asset.pk)
        content = (thumbnail_dir / asset.thumbnail_path).read_bytes()
        assert len(content) == asset.thumbnail_bytes, asset
        assert read_stamp(content) == asset.fingerprint, asset
        size = pictures.opened(content).size
        assert size == (asset.thumbnail_width, asset.thumbnail_height), asset


def files_of(thumbnail_dir: Path) -> list[Path]:
    """All files in the cache but the locks."""
    files = (path for path in thumbnail_dir.rglob("*") if path.is_file())
    return [path for path in files if ".locks" not in path.relative_to(thumbnail_dir).parts]


def _check_cache(thumbnail_dir: Path) -> None:
    """Nothing lies there but the thumbnails that the database knows."""
    known = set(ImageAsset.objects.exclude(thumbnail_path="").values_list("thumbnail_path"))
    found = {(path.relative_to(thumbnail_dir).as_posix(),) for path in files_of(thumbnail_dir)}
    assert found == known


def _audit(*, fix: bool = False) -> None:
    answer = StringIO()
    try:
        call_command(
            "audit_thumbnails", "--deep", "--json", *(["--fix"] if fix else []), stdout=answer
        )
    except CommandError as error:
        raise AssertionError(f"{error}\n{answer.getvalue()}") from error
    report = json.loads(answer.getvalue())
    allowed = {"leftover"} if fix else set()
    assert not {name for name, number in report["found"].items() if number} - allowed, report

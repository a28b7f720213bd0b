"""Benchmarks that run small in the tests, so that they go on to measure something."""

from __future__ import annotations

from pathlib import Path

from benchmarks import moving, photos


def test_moving__measures_a_hundredth(tmp_path: Path) -> None:
    """It raises NothingToMeasure if rows or thumbnails are not taken over."""
    tiny = photos.make_tiny(tmp_path / "tiny", count=8)
    section = moving.measure(tmp_path / "moving", tiny, count=1_000, judged=False)
    assert {row.key for row in section.rows if row.value} == {
        *("moving.rows_per_s", "moving.seconds", "moving.memory_growth"),
    }

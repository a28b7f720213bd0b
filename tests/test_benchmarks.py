"""Benchmarks that run small in the tests, so that they go on to measure something."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import moving, photos, tags
from thumbnails.models import ImageAsset


def test_moving__measures_a_hundredth(tmp_path: Path) -> None:
    """It raises NothingToMeasure if rows or thumbnails are not taken over."""
    tiny = photos.make_tiny(tmp_path / "tiny", count=8)
    section = moving.measure(tmp_path / "moving", tiny, count=1_000, judged=False)
    assert {row.key for row in section.rows if row.value} == {
        *("moving.rows_per_s", "moving.seconds", "moving.memory_growth"),
    }


@pytest.mark.django_db
def test_tags__are_measured_without_a_query_and_leave_no_rows() -> None:
    rows = {row.key: row for row in tags.measure(rounds=1).rows}
    assert rows.pop("tags.queries").met
    assert len(rows) == 3
    assert all(row.value for row in rows.values())
    assert not ImageAsset.objects.exists()

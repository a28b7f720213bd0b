"""Benchmarks that run small in the tests, so that they go on to measure something."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import comparing, moving, photos, renderers, results, tags
from benchmarks.report import Bound, Row, Section
from thumbnails.models import ImageAsset


def test_moving__measures_some_rows(tmp_path: Path) -> None:
    """It raises NothingToMeasure if rows or thumbnails are not taken over."""
    tiny = photos.make_tiny(tmp_path / "tiny", count=8)
    section = moving.measure(tmp_path / "moving", tiny, count=300, judged=False)
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


def test_comparing__measures_this_project_alone(tmp_path: Path) -> None:
    """In a project of its own, as the other libraries, which are not installed for tests."""
    medium = photos.make_medium(tmp_path / "medium", count=1)
    section = comparing.measure_apps(tmp_path, medium, medium, rounds=1, page=5, libraries=())
    found = {row.key: row.value for row in section.rows}
    assert found.pop("others.ours_page_queries") == 1
    assert found.pop("others.ours_page_calls") == 0
    assert all(found.values())


def test_renderers__are_measured_beside_libvips(tmp_path: Path) -> None:
    """Sharp and HEICs need packages that are not installed for tests."""
    phone = {2: photos.make_photos(tmp_path, count=1, size=(1600, 1200))}
    section = renderers.measure(phone, {}, [], rounds=1, sharps_picture=None, with_sharp=False)
    rows = {row.key.removeprefix("renderers."): row for row in section.rows}
    ours, vips = rows["ours_photo_2_ms"].value, rows["vips_photo_2_ms"].value
    assert ours
    assert vips
    assert rows["photo_2_over_vips"].value == ours / vips
    assert rows["photo_2_psnr_db"].met


def test_results__keep_the_sections_that_are_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"

    def record(name: str, *values: float) -> None:
        bound = Bound(at_most=5)
        rows = [
            Row(key="", label="<b> time", value=value, unit="ms", bound=bound) for value in values
        ]
        results.record(path, name, Section(title=f"The {name}", rows=rows), ["web", "pages"])

    record("pages", 1, 9)
    record("web", 2)
    before = path.read_text()
    record("web", 3)
    assert path.read_text() == before.replace("time | 2.0 ms |", "time | 3.0 ms |")
    assert before.index("## `web`: The web") < before.index("## `pages`: The pages")
    assert "| &lt;b&gt; time | 1.0 ms | ≤ 5 | yes |" in before
    assert "| &lt;b&gt; time | 9.0 ms | ≤ 5 | **no** |" in before

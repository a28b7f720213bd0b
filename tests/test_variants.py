"""Variants of thumbnails: written, served, checked and deleted with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.template.defaultfilters import filesizeformat
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from tests import pictures
from tests.conftest import MakeAsset, Manage
from thumbnails.models import ImageAsset, Outcome, State
from thumbnails.models.results import NO_THUMBNAIL
from thumbnails.rendering import Facts, is_whole
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.names import name_for
from thumbnails.upkeep.images import freshness, importing, pools
from thumbnails.upkeep.images.lost_files import lost_files
from thumbnails.upkeep.reports.audit import Finding, Report, audit
from thumbnails.upkeep.reports.counts import statistics
from thumbnails.upkeep.reports.overview import overview
from thumbnails.upkeep.runs.planning import mean_bytes

pytestmark = pytest.mark.django_db

VARIANTS = {"@2x.jpg": 512, ".webp": 256, "-large.avif": 600}


@pytest.fixture(autouse=True)
def configured(settings: Settings) -> None:
    settings.THUMBNAIL_VARIANTS = VARIANTS


@pytest.fixture
def asset(make_asset: MakeAsset) -> ImageAsset:
    """One whose thumbnail is rendered."""
    made = make_asset(pictures.jpeg(pictures.scene(800, 600), orientation=6))
    assert refreshed(made) == Outcome.RENDERED
    made.refresh_from_db()
    return made


def refreshed(asset: ImageAsset) -> Outcome:
    result = freshness.refresh_now(asset.pk, pools.web_pool())
    assert result is not None
    return result.outcome


def url_of(asset: ImageAsset, suffix: str) -> str:
    return asset.thumbnail_url.replace(".jpg?", f"{suffix}?")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob("[0-9a-f]*/*")}


def names(asset: ImageAsset, *suffixes: str) -> set[str]:
    return {name_for(asset.pk, suffix) for suffix in (".jpg", *suffixes)}


# --- Rendering and recording ----------------------------------------------------------------------


def test_refresh__writes_and_records_all_variants(asset: ImageAsset, thumbnail_dir: Path) -> None:
    assert files(thumbnail_dir) == names(asset, *VARIANTS)
    assert asset.thumbnail_variants == {
        suffix: [
            size_px,
            size_px * 3 // 4,
            (thumbnail_dir / name_for(asset.pk, suffix)).stat().st_size,
        ]
        for suffix, size_px in VARIANTS.items()
    }
    assert refreshed(asset) == Outcome.FRESH


def test_refresh__writes_the_thumbnail_last(
    make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamp says which render all of them are of."""
    written: list[str] = []

    def write(name: str, _: bytes) -> None:
        written.append(name)

    monkeypatch.setattr(cache, "write", write)
    asset = make_asset()
    refreshed(asset)
    assert written[-1] == asset.thumbnail_name
    assert set(written) == names(asset, *VARIANTS)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_refresh__completes_what_was_deleted_or_emptied(
    asset: ImageAsset, thumbnail_dir: Path, damage: Any
) -> None:
    damage(thumbnail_dir / name_for(asset.pk, ".webp"))
    assert list(lost_files(ImageAsset.objects.all())) == [asset.pk]
    assert refreshed(asset) == Outcome.RENDERED
    assert list(lost_files(ImageAsset.objects.all())) == []
    assert is_whole((thumbnail_dir / name_for(asset.pk, ".webp")).read_bytes(), ".webp")


def test_refresh__deletes_what_is_no_longer_configured(
    asset: ImageAsset, thumbnail_dir: Path, settings: Settings
) -> None:
    settings.THUMBNAIL_VARIANTS = ".webp=256, .avif=256"
    assert ImageAsset.objects.get().state == State.STALE
    assert refreshed(asset) == Outcome.RENDERED
    assert files(thumbnail_dir) == names(asset, ".webp", ".avif")
    settings.THUMBNAIL_VARIANTS = ""
    assert refreshed(asset) == Outcome.RENDERED
    assert files(thumbnail_dir) == names(asset)
    assert ImageAsset.objects.get().thumbnail_variants == {}


@pytest.mark.django_db(transaction=True)
def test_command__renders_the_variants_of_its_environment(
    make_asset: MakeAsset, thumbnail_dir: Path, manage: Manage
) -> None:
    made = [make_asset() for _ in range(3)]
    variants = {"THUMBNAIL_VARIANTS": "@2x.jpg=512, .webp=256", "THUMBNAIL_PLACEHOLDERS": "on"}
    done = manage("regenerate_thumbnails", **variants)
    assert done.returncode == 0, done.stderr
    expected = {name for asset in made for name in names(asset, "@2x.jpg", ".webp")}
    assert files(thumbnail_dir) == expected
    for asset in ImageAsset.objects.all():
        assert asset.thumbnail_variants.keys() == {"@2x.jpg", ".webp"}
        assert asset.thumbnail_hash
    # Another process with the same variants finds the same recipe in force, and nothing to do.
    assert "Nothing to do" in manage("regenerate_thumbnails", **variants).stdout


@pytest.mark.parametrize("act", ["purge", "delete", "replace", "lose"])
def test_variants__go_with_the_thumbnail(
    asset: ImageAsset,
    originals_dir: Path,
    thumbnail_dir: Path,
    django_capture_on_commit_callbacks: Any,
    settings: Settings,
    act: str,
) -> None:
    settings.THUMBNAIL_VARIANTS = ""  # by the record
    with django_capture_on_commit_callbacks(execute=True):
        if act == "purge":
            freshness.purge_now(asset.pk)
        elif act == "delete":
            asset.delete()
        elif act == "replace":
            facts = Facts(width=64, height=48, format="JPEG", mode="RGB", orientation=1)
            importing.replace_original(asset, BytesIO(pictures.jpeg()), facts, name="new.jpg")
        else:  # the thumbnail is deleted by hand, and the original is gone
            (thumbnail_dir / asset.thumbnail_name).unlink()
            shutil.rmtree(originals_dir)
            originals_dir.mkdir()
            (originals_dir / "other").touch()
            assert refreshed(asset) == Outcome.FAILED
    assert files(thumbnail_dir) == set()
    assert not ImageAsset.objects.exclude(thumbnail_variants={}).exists()


# --- Serving --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [("@2x.jpg", "image/jpeg"), (".webp", "image/webp"), ("-large.avif", "image/avif")],
)
def test_request__for_a_variant_renders_it_and_then_costs_no_query(
    client: Client,
    make_asset: MakeAsset,
    thumbnail_dir: Path,
    django_assert_num_queries: DjangoAssertNumQueries,
    suffix: str,
    media_type: str,
) -> None:
    asset = make_asset()
    url = url_of(asset, suffix)
    first = client.get(url)
    assert files(thumbnail_dir) == names(asset, *VARIANTS)
    with django_assert_num_queries(0):
        hit = client.get(url)
        unchanged = client.get(url, headers={"If-None-Match": hit["ETag"]})
    for response in (first, hit):
        assert response["Content-Type"] == media_type
        assert response["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response["ETag"] == f'"{asset.fingerprint}"'
        assert response.content == (thumbnail_dir / name_for(asset.pk, suffix)).read_bytes()
    assert unchanged.status_code == HTTPStatus.NOT_MODIFIED
    assert client.get(url.partition("?")[0])["Cache-Control"] == "public, no-cache"


@pytest.mark.parametrize("content", [None, b"", b"RIFF\xff\xff\xff\xffWEBP"])
def test_request__for_a_variant_that_was_deleted_or_cut_mends_it(
    client: Client, asset: ImageAsset, thumbnail_dir: Path, content: bytes | None
) -> None:
    file = thumbnail_dir / name_for(asset.pk, ".webp")
    made = file.read_bytes()
    file.unlink() if content is None else file.write_bytes(content)
    assert client.get(url_of(asset, ".webp")).content == made
    assert file.read_bytes() == made


@pytest.mark.parametrize("suffix", [".avif", "@3x.jpg", "-large.jpg"])
def test_request__for_a_variant_that_is_not_configured_is_404(
    client: Client,
    asset: ImageAsset,
    django_assert_num_queries: DjangoAssertNumQueries,
    suffix: str,
) -> None:
    with django_assert_num_queries(1):
        response = client.get(url_of(asset, suffix))
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response["Cache-Control"] == "public, max-age=60"


def test_request__for_a_recorded_variant_is_served_after_it_left_the_settings(
    client: Client, asset: ImageAsset, settings: Settings
) -> None:
    """Pages list it until the thumbnail is rendered again."""
    url = url_of(asset, ".webp")
    settings.THUMBNAIL_VARIANTS = ""
    assert client.get(url).status_code == HTTPStatus.OK


def test_request__for_a_variant_is_answered_while_the_cache_is_full(
    client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileSystemStorage, "save", full)
    response = client.get(url_of(make_asset(), ".webp"))
    assert is_whole(response.content, ".webp")
    assert response["Cache-Control"] == "no-store"


# --- Auditing -------------------------------------------------------------------------------------


def found_in(report: Report) -> dict[Finding, int]:
    return {finding: number for finding, number in report.found.items() if number}


def test_audit__knows_variants(asset: ImageAsset, thumbnail_dir: Path) -> None:
    report = audit(deep=True)
    assert (report.files, found_in(report)) == (4, {})
    ImageAsset.objects.update(**asdict(NO_THUMBNAIL))
    assert found_in(audit()) == {Finding.UNRECORDED: 4}
    freshness.delete_unrecorded(asset.pk)
    assert files(thumbnail_dir) == set()


def test_audit__fix_deletes_variants_that_are_not_recorded(
    asset: ImageAsset, thumbnail_dir: Path
) -> None:
    cache.write(name_for(asset.pk, "-old.webp"), pictures.webp())
    cache.write(name_for(asset.pk + 1, ".webp"), pictures.webp())
    (thumbnail_dir / name_for(asset.pk)).with_name(f"{asset.pk}@1x.webp").touch()
    report = audit(fix=True, allow_share=1)
    assert found_in(report) == {Finding.ORPHAN: 2, Finding.FOREIGN: 1}
    assert report.is_clean
    assert found_in(audit()) == {Finding.FOREIGN: 1}


def test_audit__fix_mends_each_variant_that_is_missing_damaged_or_another(
    asset: ImageAsset, thumbnail_dir: Path
) -> None:
    folder = (thumbnail_dir / asset.thumbnail_name).parent
    (folder / f"{asset.pk}@2x.jpg").unlink()
    (folder / f"{asset.pk}.webp").write_bytes(b"")
    (folder / f"{asset.pk}-large.avif").write_bytes(pictures.avif())
    report = audit(fix=True, allow_share=1)
    assert found_in(report) == {Finding.MISSING: 1, Finding.DAMAGED: 1, Finding.MISMATCHED: 1}
    assert report.is_clean
    assert refreshed(asset) == Outcome.RENDERED
    assert found_in(audit(deep=True)) == {}


def test_audit__deep_finds_a_variant_that_cannot_be_decoded(
    asset: ImageAsset, thumbnail_dir: Path
) -> None:
    file = thumbnail_dir / name_for(asset.pk, ".webp")
    content = bytearray(file.read_bytes())
    content[12:16] = b"None"
    file.write_bytes(content)
    assert found_in(audit()) == {}
    assert found_in(audit(deep=True)) == {Finding.DAMAGED: 1}


def by_another_program(asset: ImageAsset, folder: Path, **content: bytes) -> None:
    """Files that are named as the asset's thumbnail and variants; by default whole ones."""
    small, large = pictures.scene(90, 60), pictures.scene(180, 120)
    made = {".jpg": pictures.jpeg(small), "@2x.jpg": pictures.jpeg(large)}
    made |= {".webp": pictures.webp(small), "-large.avif": pictures.avif(large)}
    for suffix, data in (made | content).items():
        path = folder / name_for(asset.pk, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.mark.parametrize("state", ["missing", "fresh", "adopted before its variants"])
def test_audit__adopts_the_variants_beside_a_thumbnail(
    make_asset: MakeAsset, thumbnail_dir: Path, state: str
) -> None:
    asset = make_asset()
    by_another_program(asset, thumbnail_dir)
    if state == "fresh":
        assert refreshed(asset) == Outcome.RENDERED
        by_another_program(asset, thumbnail_dir)
    elif state != "missing":
        assert audit(adopt=True).adopted == 1
        ImageAsset.objects.update(thumbnail_variants={})
    report = audit(adopt=True, fix=True, allow_share=1)
    assert report.adopted == 1
    assert report.is_clean
    assert not report.found[Finding.ORPHAN]
    assert not report.found[Finding.MISMATCHED]
    assert files(thumbnail_dir) == names(asset, *VARIANTS)
    adopted = ImageAsset.objects.get()
    assert adopted.state == State.STALE
    assert adopted.thumbnail_variants == {
        suffix: [*size, (thumbnail_dir / name_for(asset.pk, suffix)).stat().st_size]
        for suffix, size in {
            "@2x.jpg": (180, 120),
            ".webp": (90, 60),
            "-large.avif": (180, 120),
        }.items()
    }
    again = audit(adopt=True, fix=True, deep=True)
    assert (found_in(again), again.adopted) == ({}, 0)


def test_audit__adopts_only_variants_that_are_what_they_are_named(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    broken = bytearray(pictures.webp())
    broken[12:16] = b"None"
    others = {"@2x.jpg": pictures.jpeg()[:-9], ".webp": bytes(broken)}
    heic = pictures.avif().replace(b"avif", b"heic")
    by_another_program(asset, thumbnail_dir, **others, **{"-large.avif": heic})
    report = audit(adopt=True)
    assert (report.adopted, found_in(report)) == (1, {Finding.UNSTAMPED: 1, Finding.ORPHAN: 3})
    assert set(report.examples[Finding.ORPHAN]) == names(asset, *VARIANTS) - names(asset)
    assert ImageAsset.objects.get().thumbnail_variants == {}
    assert audit(fix=True, allow_share=1).is_clean
    assert files(thumbnail_dir) == names(asset)


def test_audit__deep_adopts_only_variants_that_can_be_decoded(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    whole = pictures.avif()
    end_of_header = whole.index(b"mdat") + 4
    cut = whole[:end_of_header] + bytes(len(whole) - end_of_header)
    by_another_program(asset, thumbnail_dir, **{"-large.avif": cut})
    assert audit(adopt=True, deep=True).found[Finding.ORPHAN] == 1
    assert ImageAsset.objects.get().thumbnail_variants.keys() == {"@2x.jpg", ".webp"}


def test_adopted_variants__are_served_counted_and_purged(
    client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    by_another_program(asset, thumbnail_dir)
    audit(adopt=True)
    asset.refresh_from_db()
    before = {path: path.read_bytes() for path in thumbnail_dir.glob("*/*")}
    assert "stale=1 2x" in asset.thumbnail_sources()["srcset"]
    for suffix in VARIANTS:
        url = asset.variant_url(suffix)
        assert url.endswith("&stale=1")
        response = client.get(url)
        assert response.status_code == HTTPStatus.OK
        assert response["Cache-Control"] == "no-store"
        assert response.content == (thumbnail_dir / name_for(asset.pk, suffix)).read_bytes()
    assert {path: path.read_bytes() for path in thumbnail_dir.glob("*/*")} == before
    assert {(use.suffix, use.size_bytes) for use in statistics().variants} == {
        (suffix, entry[-1]) for suffix, entry in asset.thumbnail_variants.items()
    }
    freshness.purge_now(asset.pk)
    assert files(thumbnail_dir) == set()


# --- Counting -------------------------------------------------------------------------------------


def test_counts__have_files_and_bytes_of_each_variant(
    asset: ImageAsset, staff_client: Client, manage: Manage
) -> None:
    sizes = {suffix: entry[-1] for suffix, entry in asset.thumbnail_variants.items()}
    found = statistics().variants
    assert overview().variants == found
    assert [(use.suffix, use.files, use.size_bytes) for use in found] == [
        (suffix, 1, size_bytes) for suffix, size_bytes in sorted(sizes.items())
    ]
    together = (asset.thumbnail_bytes or 0) + sum(sizes.values())
    assert overview().size_bytes == statistics().size_bytes == together
    assert mean_bytes() > (asset.thumbnail_bytes or 0)
    page = staff_client.get("/admin/thumbnails/cache/").content.decode()
    assert f"<dt>Variant .webp</dt><dd>1, {filesizeformat(sizes['.webp'])}</dd>" in page
    report = json.loads(manage("thumbnail_stats", "--json").stdout)
    assert report["variants"][".webp"] == {"files": 1, "bytes": sizes[".webp"]}
    assert report["cache"] == {"files": 4, "bytes": together}


# --- Whole or not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["@2x.jpg", ".webp", ".avif"])
def test_is_whole__of_every_format(suffix: str) -> None:
    build = {"@2x.jpg": pictures.jpeg, ".webp": pictures.webp, ".avif": pictures.avif}[suffix]
    content = build()
    assert is_whole(content, suffix)
    assert not any(is_whole(content[:end], suffix) for end in range(len(content)))
    assert not is_whole(content + b"\0" * 9, suffix)
    assert not is_whole(b"\0" * len(content), suffix)

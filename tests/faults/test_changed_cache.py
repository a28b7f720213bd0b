"""Files in the cache that another program put there, or took away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import pictures
from tests.conftest import Manage
from tests.faults.conftest import MakeAssets, ServeSite
from tests.faults.switchboard import Switchboard
from thumbnails.models import ImageAsset
from thumbnails.rendering import read_stamp

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 20
RECORDS = 200


def audited(manage: Manage, *arguments: object) -> tuple[int, dict[str, Any]]:
    """The audit's exit status and report."""
    done = manage("audit_thumbnails", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


# --- Another stamp --------------------------------------------------------------------------------


def with_other_stamp(thumbnail: bytes, asset: ImageAsset) -> bytes:
    """A whole thumbnail of the same length that was made otherwise, as one from a backup."""
    other = asset.fingerprint[::-1]
    assert other != asset.fingerprint
    changed = thumbnail.replace(asset.fingerprint.encode(), other.encode())
    assert read_stamp(changed) == other
    return changed


def test_file_with_another_stamp__is_never_sent_for_good_and_rendered_again(
    make_assets: MakeAssets,
    manage: Manage,
    serve_site: ServeSite,
    switchboard: Switchboard,
    thumbnail_dir: Path,
) -> None:
    assets = make_assets(ASSETS)
    assert manage("regenerate_thumbnails").returncode == 0
    site, begun = serve_site(), switchboard.begun()
    for asset in assets[:5]:
        file = thumbnail_dir / asset.thumbnail_name
        true = file.read_bytes()
        file.write_bytes(with_other_stamp(true, asset))
        answer = site.thumbnail(asset, asset.fingerprint)
        assert answer.status == 200
        # Its URL names exactly one thumbnail's bytes: others may not be kept under it for good.
        if "immutable" in answer.headers["cache-control"]:
            assert read_stamp(answer.body) == asset.fingerprint
        assert read_stamp(file.read_bytes()) == asset.fingerprint
        again = site.thumbnail(asset, asset.fingerprint)
        assert read_stamp(again.body) == asset.fingerprint
        assert "immutable" in again.headers["cache-control"]
    assert switchboard.begun() == begun + 5


# --- No stamp -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [[], ["--deep"]], ids=["", "deep"])
def test_audit__leaves_whole_pictures_without_a_stamp_alone(
    deep: list[str],
    make_assets: MakeAssets,
    manage: Manage,
    originals_dir: Path,
    thumbnail_dir: Path,
) -> None:
    """As another program's thumbnails: where the original is gone it is the last of the picture."""
    asset = make_assets(ASSETS)[7]
    assert manage("regenerate_thumbnails").returncode == 0
    file, picture = thumbnail_dir / asset.thumbnail_name, pictures.jpeg()
    file.write_bytes(picture)
    (originals_dir / str(asset.original.name)).unlink()
    _, report = audited(manage, "--fix", *deep)
    assert file.exists()
    assert file.read_bytes() == picture
    assert report["found"]["unstamped"] == 1
    assert report["found"]["damaged"] == 0
    assert asset.thumbnail_name in report["examples"]["unstamped"]


# --- No files -------------------------------------------------------------------------------------


def test_audit__clears_no_records_over_an_emptied_cache_unless_told(
    make_assets: MakeAssets, manage: Manage, thumbnail_dir: Path
) -> None:
    """As when the cache's disk is not mounted: all come back with it, if they are not forgotten."""
    make_assets(RECORDS)
    assert manage("regenerate_thumbnails").returncode == 0
    for entry in thumbnail_dir.iterdir():
        shutil.rmtree(entry)
    recorded = ImageAsset.objects.exclude(thumbnail_path="")
    status, report = audited(manage, "--fix")
    assert status == 1
    assert report["found"]["missing"] == RECORDS
    assert report["refusal"]
    assert recorded.count() == RECORDS

    status, report = audited(manage, "--fix", "--allow-share", "1")
    assert status == 0, report
    assert report["refusal"] == ""
    assert recorded.count() == 0

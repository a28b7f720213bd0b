"""Originals that were overwritten in place or deleted without a word to the site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests import pictures
from tests.conftest import Manage
from tests.faults.conftest import MakeAssets, ServeSite
from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run, State

pytestmark = pytest.mark.django_db(transaction=True)

ASSETS = 12


def test_changed_originals__are_found_by_the_audit_and_by_a_rescan(
    make_assets: MakeAssets,
    manage: Manage,
    serve_site: ServeSite,
    originals_dir: Path,
    thumbnail_dir: Path,
) -> None:
    assets = make_assets(ASSETS)
    changed, gone = assets[3], assets[8]
    assert manage("regenerate_thumbnails").returncode == 0
    kept = (thumbnail_dir / gone.thumbnail_name).read_bytes()
    blue = pictures.jpeg(Image.new("RGB", (32, 24), pictures.QUARTERS["blue"]))
    (originals_dir / str(changed.original.name)).write_bytes(blue)
    (originals_dir / str(gone.original.name)).unlink()

    audit = manage("audit_thumbnails", "--originals", "--json")
    assert audit.returncode == 1, audit.stderr
    found = json.loads(audit.stdout)["found"]
    assert found["changed"] == 1
    assert found["gone"] == 1

    rescan = manage("regenerate_thumbnails", "--rescan")
    assert rescan.returncode == 1, rescan.stderr
    run = Run.objects.order_by("pk").reverse()[0]
    assert run.progress().rendered == 1
    assert run.progress().failures == {Reason.SOURCE_MISSING: [gone.pk]}
    changed, gone = (ImageAsset.objects.get(pk=asset.pk) for asset in (changed, gone))
    assert changed.state == State.FRESH
    assert gone.thumbnail_error == Reason.SOURCE_MISSING
    site = serve_site()
    shown = pictures.opened(site.thumbnail(changed).body)
    assert set(pictures.corners(shown)) == {"blue"}
    still = site.thumbnail(gone)
    assert still.status == 200
    assert still.body == kept

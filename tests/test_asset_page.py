"""The page of one asset in the admin: facts, history, regenerate, purge, another original."""

from __future__ import annotations

import html
import re
import time
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from pytest_django import Settings

from tests import pictures
from tests.conftest import MakeAsset
from tests.runs import start_here, work
from thumbnails.exceptions import StorageFailure, ThumbnailError
from thumbnails.models import ImageAsset, Run, State, TrainingSession
from thumbnails.models.results import save_results
from thumbnails.rendering import read_stamp
from thumbnails.storage import thumbnails as cache
from thumbnails.storage.locks import render_lock
from thumbnails.storage.thumbnails import ThumbnailStorage
from thumbnails.upkeep.images import freshness, importing, pools, serving

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/thumbnails/imageasset/"


def url_of(asset: ImageAsset, verb: str = "change") -> str:
    return f"{LIST}{asset.pk}/{verb}/"


def text_of(response: Any) -> str:
    assert response.status_code == HTTPStatus.OK
    return str(response.content.decode())


def replace(client: Client, asset: ImageAsset, data: bytes, name: str = "new.jpg") -> str:
    upload = SimpleUploadedFile(name, data)
    page = client.post(url_of(asset), {"replacement": upload}, follow=True)
    return text_of(page)


# --- what it shows --------------------------------------------------------------------------------


def test_page__shows_the_originals_facts_and_the_thumbnail_at_true_size(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(2000, 1000), orientation=6))
    page = text_of(staff_client.get(url_of(asset)))
    assert "There is none. It is rendered on its next request." in page
    assert '<img class="thumbnail"' not in page
    serving.serve(asset)
    page = text_of(staff_client.get(url_of(asset)))
    assert re.search(
        rf'<img class="thumbnail" src="{re.escape(asset.thumbnail_url)}" alt="picture 1" '
        r'width="256" height="128">',
        page,
    )
    assert "1000 × 2000 pixels (2.0 megapixels), EXIF orientation 6" in page
    assert "JPEG, mode RGB" in page
    assert "in force" in page


def test_history__has_what_staff_have_done(staff_client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset()
    make_asset()
    staff_client.post(url_of(asset, "regenerate"))
    page = text_of(staff_client.get(url_of(asset, "history"))).split('id="change-history"')[1]
    assert re.findall(r"<td>(.*)</td>", page) == ["staff", "The thumbnail was rendered."]
    assert "1 entry" in page


def test_page__leads_from_each_fact_to_the_images_that_share_it(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    alike, other = make_asset(), make_asset()
    ImageAsset.objects.filter(pk=alike.pk).update(camera="A & B", color_profile="<P3>")
    page = text_of(staff_client.get(url_of(alike)))
    for words in ("baseline", "8 bits a channel", "without alpha", "1 frame", "A &amp; B"):
        assert re.search(rf'<a href="([^"]*)">{words}</a>', page), words
    found = re.search(r'<a href="([^"]*)">&lt;P3&gt;</a>', page)
    assert found is not None
    shown = text_of(staff_client.get(html.unescape(found[1])))
    assert f"/imageasset/{alike.pk}/change/" in shown
    assert f"/imageasset/{other.pk}/change/" not in shown
    ImageAsset.objects.update(facts_version=0)
    assert "The next render reads that." in text_of(staff_client.get(url_of(alike)))


def test_page__shows_the_history_with_links_to_runs(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset(pictures.truncated())
    assert "There have been no attempts yet" in text_of(staff_client.get(url_of(asset)))
    run = start_here()
    work(run)
    history = text_of(staff_client.get(url_of(asset))).split('id="thumbnail-history"')[1]
    assert "<td>Failed</td>" in history
    assert "<td>unreadable</td>" in history
    assert f'<a href="/admin/thumbnails/run/{run.pk}/change/">Run {run.pk}</a>' in history


def test_page__lists_the_variants_with_their_sizes(
    staff_client: Client, make_asset: MakeAsset, settings: Settings
) -> None:
    settings.THUMBNAIL_VARIANTS = "@2x.jpg=512,.webp=256"
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)))
    serving.serve(asset)
    asset.refresh_from_db()
    page = text_of(staff_client.get(url_of(asset)))
    address = asset.variant_url("@2x.jpg").replace("&", "&amp;")
    assert f'<a href="{address}">@2x.jpg</a>: 512 × 384, ' in page
    assert ">.webp</a>: 256 × 192, " in page


# --- the original ---------------------------------------------------------------------------------


def test_original__is_shown_where_nothing_in_it_can_run(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    data = pictures.png()
    asset = make_asset(data, name="folder/a.png")
    assert url_of(asset, "original") in text_of(staff_client.get(url_of(asset)))
    answer: Any = staff_client.get(url_of(asset, "original"))
    assert b"".join(answer.streaming_content) == data
    assert answer["Content-Type"] == "image/png"
    assert answer["Content-Disposition"] == 'inline; filename="a.png"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"].endswith("; sandbox")
    assert "no-store" in answer["Cache-Control"]


def test_original__that_is_no_picture_is_downloaded(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset(name="a.svg")
    ImageAsset.objects.filter(pk=asset.pk).update(format="SVG")
    answer: Any = staff_client.get(url_of(asset, "original"))
    assert b"".join(answer.streaming_content) == pictures.jpeg()
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="a.svg"'


def test_original__that_is_gone_is_told(
    staff_client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(name="a.jpg")
    (originals_dir / "a.jpg").unlink()
    page = text_of(staff_client.get(url_of(asset, "original"), follow=True))
    assert "The original a.jpg is gone." in page


# --- regenerate and purge -------------------------------------------------------------------------


def test_regenerate__renders_at_once_even_if_fresh(
    staff_client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    serving.serve(asset)
    before = (thumbnail_dir / asset.thumbnail_name).stat().st_ino
    page = text_of(staff_client.post(url_of(asset, "regenerate"), follow=True))
    assert "The thumbnail was rendered." in page
    assert (thumbnail_dir / asset.thumbnail_name).stat().st_ino != before
    assert not Run.objects.exists()


def test_regenerate__tells_why_it_failed(staff_client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(pictures.truncated())
    page = text_of(staff_client.post(url_of(asset, "regenerate"), follow=True))
    assert "It failed: unreadable." in page
    asset.refresh_from_db()
    assert asset.state == State.FAILED


def test_regenerate__of_one_that_hangs_elsewhere_is_told(
    staff_client: Client, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "WAIT_SECONDS", 0)
    asset = make_asset()
    with render_lock(asset.pk, patience_seconds=0):
        page = text_of(staff_client.post(url_of(asset, "regenerate"), follow=True))
    assert "Another process is rendering this thumbnail." in page
    asset.refresh_from_db()
    assert asset.state == State.MISSING


def test_purge__asks_first_and_then_deletes(
    staff_client: Client, make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    serving.serve(asset)
    question = text_of(staff_client.get(url_of(asset, "purge")))
    assert "Yes, purge it" in question
    assert (thumbnail_dir / asset.thumbnail_name).exists()
    page = text_of(staff_client.post(url_of(asset, "purge"), follow=True))
    assert "The thumbnail is purged." in page
    assert '<img class="thumbnail"' not in page  # showing it would render it again
    assert not (thumbnail_dir / asset.thumbnail_name).exists()
    asset.refresh_from_db()
    assert asset.state == State.MISSING
    assert asset.thumbnail_history[0]["outcome"] == "purged"


@pytest.mark.parametrize("verb", ["regenerate", "purge"])
def test_verbs__each_needs_its_own_permission(
    client: Client, make_asset: MakeAsset, verb: str
) -> None:
    asset = make_asset()
    serving.serve(asset)
    before = ImageAsset.objects.values().get()
    other = {"regenerate": "purge", "purge": "regenerate"}[verb]
    user = User.objects.create_user("viewer", is_staff=True)
    names = ["view_imageasset", f"{other}_thumbnails"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    page = text_of(client.get(url_of(asset)))
    assert url_of(asset, verb) not in page
    assert url_of(asset, other) in page
    assert client.post(url_of(asset, verb)).status_code == HTTPStatus.FORBIDDEN
    assert ImageAsset.objects.values().get() == before
    assert 'name="replacement"' not in page
    forged = SimpleUploadedFile("new.jpg", pictures.jpeg())
    answer = client.post(url_of(asset), {"replacement": forged})
    assert answer.status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("verb", ["regenerate", "purge"])
def test_verbs__are_posts_with_a_token(staff: User, make_asset: MakeAsset, verb: str) -> None:
    asset = make_asset()
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.post(url_of(asset, verb)).status_code == HTTPStatus.FORBIDDEN
    if verb == "regenerate":
        got = client.get(url_of(asset, verb))
        assert got.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    asset.refresh_from_db()
    assert asset.state == State.MISSING


@pytest.mark.parametrize("verb", ["regenerate", "purge"])
def test_verbs__of_an_asset_that_is_gone(staff_client: Client, verb: str) -> None:
    page = text_of(staff_client.post(f"{LIST}999/{verb}/", follow=True))
    assert "doesn’t exist. Perhaps it was deleted?" in page


# --- another original -----------------------------------------------------------------------------


def test_replace__shows_the_new_picture_at_a_new_url_and_keeps_the_old_file(
    staff_client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset(pictures.jpeg(pictures.scene(640, 480)), name="a.jpg")
    serving.serve(asset)
    old_url = asset.thumbnail_url
    new = pictures.png(pictures.scene(100, 300))
    page = replace(staff_client, asset, new, name="b.png")
    assert "The thumbnail was rendered." in page
    asset.refresh_from_db()
    assert (asset.format, asset.width, asset.height) == ("PNG", 100, 300)
    assert asset.state == State.FRESH
    assert (asset.thumbnail_width, asset.thumbnail_height) == (85, 256)
    assert asset.thumbnail_url != old_url
    assert asset.thumbnail_url in page
    assert (originals_dir / str(asset.original)).read_bytes() == new
    assert (originals_dir / "a.jpg").exists()
    assert staff_client.get(asset.thumbnail_url).status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    "data", [b"", pictures.TEXT, pictures.truncated(), pictures.bomb()], ids=range(4)
)
def test_replace__by_a_broken_picture_is_refused_and_changes_nothing(
    staff_client: Client, make_asset: MakeAsset, originals_dir: Path, data: bytes
) -> None:
    asset = make_asset()
    serving.serve(asset)
    before = ImageAsset.objects.values().get()
    files = sorted(originals_dir.rglob("*"))
    assert "errorlist" in replace(staff_client, asset, data)
    assert ImageAsset.objects.values().get() == before
    assert sorted(originals_dir.rglob("*")) == files


def test_replace__that_cannot_be_stored_is_told_and_changes_nothing(
    staff_client: Client, make_asset: MakeAsset, originals_dir: Path
) -> None:
    asset = make_asset()
    before = ImageAsset.objects.values().get()
    (originals_dir / "uploads").write_text("in the way")
    assert "The original cannot be stored" in replace(staff_client, asset, pictures.jpeg())
    assert ImageAsset.objects.values().get() == before


def test_save__without_a_file_changes_the_sessions_alone(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset(session="Old")
    kept, new = (TrainingSession.objects.create(name="S") for _ in range(2))
    asset.set_sessions([*asset.sessions.all(), kept])
    before = ImageAsset.objects.values().get()
    staff_client.post(url_of(asset), {"sessions": [kept.pk, new.pk]})
    assert ImageAsset.objects.values().get() == before
    members = asset.memberships.order_by("session").values_list("session", "created_at")
    assert list(members) == [(session.pk, asset.created_at) for session in (kept, new)]
    page = text_of(staff_client.get(url_of(asset)))
    assert f"S (#{kept.pk})</option>" in page
    assert f"S (#{new.pk})</option>" in page
    assert "Old" not in page


def test_replace__while_a_worker_renders_the_old_one(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset()
    seen_by_worker, looked_at = ImageAsset.objects.get(), time.monotonic()
    replace(staff_client, asset, pictures.jpeg(pictures.scene(30, 90)))
    # Its chunk's assets were read before, and it comes to this one only now.
    pool = pools.worker_pool(large=False)
    result = freshness.refresh(seen_by_worker, pool, looked_at=looked_at)
    assert save_results([result]) == [asset.pk]
    asset.refresh_from_db()
    assert (asset.width, asset.height) == (30, 90)
    # A web server may already send the file under the new URL.
    content = cache.read(asset.thumbnail_name)
    assert content is not None
    assert pictures.opened(content).size == (30, 90)
    assert read_stamp(content) == asset.fingerprint
    assert asset.state == State.FRESH


def test_replace__while_a_worker_renders_the_old_one_which_tries_again(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    asset = make_asset()
    seen_by_worker = ImageAsset.objects.get()
    replace(staff_client, asset, pictures.jpeg(pictures.scene(30, 90)))
    pool = pools.worker_pool(large=False)
    result = freshness.refresh(seen_by_worker, pool)
    assert save_results([result]) == [asset.pk]
    freshness.refresh_now(asset.pk, pool)
    content = cache.read(asset.thumbnail_name)
    assert content is not None
    assert pictures.opened(content).size == (30, 90)
    asset.refresh_from_db()
    assert (asset.state, asset.thumbnail_bytes) == (State.FRESH, len(content))


def test_replace__takes_the_old_picture_away_at_once(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    """Also where the new one cannot be rendered yet: staff may have had their reasons."""
    asset = make_asset()
    serving.serve(asset)
    new = BytesIO(pictures.jpeg(pictures.scene(30, 90)))
    importing.replace_original(asset, new, serving.render_upload(new), name="new.jpg")
    assert not (thumbnail_dir / asset.thumbnail_name).exists()
    asset.refresh_from_db()
    assert (asset.state, asset.thumbnail_path, asset.thumbnail_bytes) == (State.MISSING, "", None)
    assert (asset.width, asset.height) == (30, 90)


def test_replace__takes_it_away_before_the_new_address_is_known(
    make_asset: MakeAsset, thumbnail_dir: Path
) -> None:
    asset = make_asset()
    serving.serve(asset)
    new = BytesIO(pictures.jpeg(pictures.scene(30, 90)))
    facts = serving.render_upload(new)
    with transaction.atomic():
        importing.replace_original(asset, new, facts, name="new.jpg")
        assert not (thumbnail_dir / asset.thumbnail_name).exists()
        transaction.set_rollback(True)
    asset = ImageAsset.objects.get()
    assert pictures.opened(serving.serve(asset).content).size == (64, 48)


def test_replace__of_what_cannot_be_taken_away_changes_nothing(
    make_asset: MakeAsset, originals_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(ThumbnailStorage, "delete", fail)
    asset = make_asset()
    serving.serve(asset)
    before = ImageAsset.objects.values().get()
    new = BytesIO(pictures.jpeg(pictures.scene(30, 90)))
    facts = serving.render_upload(new)
    with pytest.raises(StorageFailure):
        importing.replace_original(asset, new, facts, name="new.jpg")
    assert ImageAsset.objects.values().get() == before
    assert not list(originals_dir.rglob("new*"))


def test_replace__of_an_asset_deleted_meanwhile_leaves_no_file(
    make_asset: MakeAsset, originals_dir: Path, tmp_path: Path
) -> None:
    asset = make_asset()
    other = tmp_path / "new.jpg"
    other.write_bytes(pictures.jpeg())
    ImageAsset.objects.all().delete()
    with other.open("rb") as file, pytest.raises(ImageAsset.DoesNotExist):
        importing.replace_original(asset, file, serving.render_upload(file), name="new.jpg")
    assert not list(originals_dir.rglob("new*"))


def test_render_upload__refuses_what_only_its_header_recommends(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(pictures.truncated())
    with broken.open("rb") as file, pytest.raises(ThumbnailError):
        serving.render_upload(file)

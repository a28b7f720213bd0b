"""Pictures of other models: images that follow their rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.apps import AppConfig, apps
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.template import engines
from django.test import Client
from pytest_django import Settings
from pytest_django.fixtures import DjangoAssertNumQueries

from tests import pictures
from tests.conftest import RunCommand
from tests.shop.models import MODELS, Bargain, Book, Brand, Product, bucket
from thumbnails import checks, conf, markup
from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset, State
from thumbnails.rest_framework import ThumbnailField
from thumbnails.storage import originals
from thumbnails.storage import thumbnails as cache
from thumbnails.tracking import asset_of, thumbnails_for, track
from thumbnails.upkeep import queue
from thumbnails.upkeep.images import arrival, importing, serving, tracking
from thumbnails.upkeep.images.tracked_fields import TrackedField
from thumbnails.upkeep.images.tracking import untrack
from thumbnails.upkeep.selection.conditions import selection_from

pytestmark = pytest.mark.django_db

Commit = Callable[..., AbstractContextManager[list[Any]]]
ROOT = "shop-product-photo"
BLUE, TALL = pictures.jpeg(pictures.scene(400, 300)), pictures.jpeg(pictures.scene(300, 500))


@pytest.fixture(scope="module", autouse=True)
def shop(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The app, with tables that last as long as these tests."""
    config = AppConfig.create("tests.shop")
    config.apps = apps
    config.import_models()
    apps.app_configs["shop"] = config
    apps.clear_cache()
    with django_db_blocker.unblock(), connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield
    with django_db_blocker.unblock(), connection.schema_editor() as editor:
        for model in reversed(MODELS):
            editor.delete_model(model)
    del apps.app_configs["shop"]
    apps.clear_cache()


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"


@pytest.fixture(autouse=True)
def tracked() -> Iterator[None]:
    track("shop.Product", "photo")
    yield
    untrack("shop.Product", "photo")


@pytest.fixture
def tracked_brand() -> Iterator[None]:
    track("shop.Brand", "logo")
    yield
    untrack("shop.Brand", "logo")


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Commit:
    """A transaction that is committed at the end of the block."""
    return partial(django_capture_on_commit_callbacks, execute=True)


@pytest.fixture
def add(commit: Commit) -> Callable[..., Product]:
    def save(name: str = "a.jpg", data: bytes = BLUE, model: Any = Product, **more: Any) -> Product:
        with commit():
            row: Product = model.objects.create(photo=ContentFile(data, name), **more)
        return row

    return save


def images() -> dict[str, ImageAsset]:
    """By their names in the root."""
    return {str(a.original.name).removeprefix(f"{ROOT}/"): a for a in ImageAsset.objects.all()}


# --- Signals --------------------------------------------------------------------------------------


def test_row__that_is_saved_has_an_image_and_a_thumbnail(add: Any, media: Path) -> None:
    row = add()
    [asset] = images().values()
    assert asset.original.name == f"{ROOT}/products/a.jpg"
    assert (asset.width, asset.height, asset.format) == (400, 300, "JPEG")
    assert asset_of(row.photo) == asset
    serving.serve(asset)
    assert images()["products/a.jpg"].state == State.FRESH
    assert [path.name for path in media.rglob("*.jpg")] == ["a.jpg"]


def test_row__with_another_file_has_another_image(add: Any, commit: Commit, media: Path) -> None:
    row = add()
    old = serving.serve(images()["products/a.jpg"])
    assert old is not None
    name = ImageAsset.objects.get().thumbnail_name
    with commit():
        row.photo = ContentFile(TALL, "b.jpg")
        row.save()
    assert images().keys() == {"products/b.jpg"}
    assert cache.load(name) is None
    assert (media / "products/a.jpg").exists()
    with commit():
        Product.objects.filter(pk=row.pk).get().photo.delete()
    assert images() == {}


def test_file__replaced_under_its_name_is_a_new_version(
    add: Any, commit: Commit, settings: Settings
) -> None:
    overwriting = {**settings.STORAGES["default"], "OPTIONS": {"allow_overwrite": True}}
    settings.STORAGES = {**settings.STORAGES, "default": overwriting}
    row = add()
    serving.serve(images()["products/a.jpg"])
    with commit():
        row.photo.save("a.jpg", ContentFile(TALL))
    asset = images()["products/a.jpg"]
    assert (asset.width, asset.height, asset.state) == (300, 500, State.STALE)


def test_file__of_several_rows_is_one_image_until_the_last_is_deleted(
    add: Any, commit: Commit, media: Path
) -> None:
    row = add()
    with commit():
        other = Product.objects.create(photo=row.photo.name, name="hidden")
    for each, left in ((row, {"products/a.jpg"}), (other, set())):
        with commit():
            each.delete()
        assert images().keys() == left
    assert (media / "products/a.jpg").exists()


@pytest.mark.parametrize("model", [Book, Bargain])
def test_row__of_a_model_that_inherits_is_followed(add: Any, commit: Commit, model: Any) -> None:
    row = add(model=model, **({"isbn": "9780000000001"} if model is Book else {}))
    assert images().keys() == {"products/a.jpg"}
    assert thumbnails_for([row], "photo") == {row.pk: images()["products/a.jpg"]}
    with commit():
        row.photo = ContentFile(TALL, "b.jpg")
        row.save()
    assert images().keys() == {"products/b.jpg"}
    with commit():
        row.delete()
    assert images() == {}


def test_transaction__that_is_rolled_back_changes_no_image(add: Any, commit: Commit) -> None:
    row = add()

    def undone(act: Callable[[], object]) -> None:
        with transaction.atomic():
            act()
            transaction.set_rollback(True)

    with commit():
        undone(row.delete)
        undone(lambda: Product.objects.create(photo=ContentFile(TALL, "b.jpg")))
        Product.objects.create(name="without a photo")
    assert images().keys() == {"products/a.jpg"}


@pytest.fixture(scope="module")
def archive(shop: None, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Any:
    """The alias of another database with the same tables."""
    name = tmp_path_factory.mktemp("archive") / "db.sqlite3"
    other = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": {}}
    connections.settings["archive"] = {**connections.settings["default"], **other}
    with django_db_blocker.unblock(), connections["archive"].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield "archive"
    connections["archive"].close()
    del connections["archive"], connections.settings["archive"]


@pytest.mark.django_db(databases=["default", "archive"])
def test_row__of_another_database_is_followed_by_its_commits(
    archive: str, add: Any, commit: Commit
) -> None:
    add("a.jpg")
    with commit(using=archive):
        row = Product(photo=ContentFile(TALL, "b.jpg"))
        row.save(using=archive)
        assert images().keys() == {"products/a.jpg"}
    assert images().keys() == {"products/a.jpg", "products/b.jpg"}
    assert sync("--dry-run")[1]["gone"] == 1
    assert sync("--database", "default", "--database", archive)[1]["gone"] == 0
    with commit(using=archive):
        row.delete()
    assert images().keys() == {"products/a.jpg"}


def test_rows__that_are_deleted_at_once_share_their_queries(
    add: Any,
    django_capture_on_commit_callbacks: Any,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    row = add()
    Product.objects.bulk_create(Product(photo=f"products/{number}.jpg") for number in range(50))
    assert sync()[0] == 1  # there are no such files
    assert len(images()) == 51
    with django_capture_on_commit_callbacks() as callbacks:
        Product.objects.exclude(pk=row.pk).delete()
    with django_assert_max_num_queries(8):
        for callback in callbacks:
            callback()
    assert images().keys() == {"products/a.jpg"}


def test_save__that_cannot_change_the_file_takes_no_query_more(
    add: Any, commit: Commit, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    row = add()
    with django_assert_num_queries(1), commit() as callbacks:
        row.save(update_fields=["name"])
    assert callbacks == []
    with django_assert_num_queries(4), commit():  # the old file, UPDATE, the new one, its image
        row.save()


def test_save__succeeds_whatever_becomes_of_the_image(
    add: Any, commit: Commit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "record", lambda *_, **__: 1 / 0)
    row = add()
    assert Product.objects.get(pk=row.pk).photo.name == "products/a.jpg"
    [logged] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "shop.Product.photo" in logged.getMessage()
    monkeypatch.undo()
    assert images() == {}
    assert sync()[0] == 0
    assert images().keys() == {"products/a.jpg"}


@pytest.mark.django_db(transaction=True)
def test_save__of_a_project_that_commits_by_itself_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transaction.set_autocommit(False)
    try:
        Product.objects.create(photo=ContentFile(BLUE, "a.jpg"))
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert Product.objects.get().photo.name == "products/a.jpg"
    assert "run manage.py track_images" in caplog.text


@pytest.mark.usefixtures("tracked_brand")
def test_object__is_not_read_while_its_row_is_saved(
    commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("it is read")

    with commit():
        row = Brand(logo=ContentFile(BLUE, "a.jpg"))
        row.logo.save("a.jpg", row.logo.file, save=False)
        monkeypatch.setattr(bucket, "open", refuse)
        row.save()
    asset = asset_of(row.logo)
    assert asset is not None
    assert (asset.width, asset.source_version, asset.state) == (None, "", State.MISSING)
    monkeypatch.undo()
    assert sync("shop.Brand.logo")[0] == 0
    serving.serve(asset)
    asset.refresh_from_db()
    assert (asset.width, asset.state) == (400, State.FRESH)
    bucket.delete(str(row.logo.name))
    bucket.save(row.logo.name, ContentFile(TALL))
    with commit():
        row.save()
    asset.refresh_from_db()
    assert asset.state == State.STALE


# --- manage.py track_images -----------------------------------------------------------------------


def sync(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Its exit status, and the report on products."""
    output = StringIO()
    status = 0
    try:
        call_command("track_images", *arguments, "--json", stdout=output)
    except CommandError as error:
        status = error.returncode
    reports = json.loads(output.getvalue() or "{}").get("fields", {})
    return status, reports.get("shop.Product.photo", {})


def counted(report: dict[str, Any]) -> dict[str, int]:
    return {name: n for name, n in report.items() if isinstance(n, int) and n}


@pytest.mark.django_db(transaction=True)
def test_command__mends_what_no_signal_told(add: Any, media: Path, run_command: RunCommand) -> None:
    rows = [add(f"{name}.jpg") for name in "abc"]
    default_storage.save("products/new.jpg", ContentFile(TALL))
    default_storage.save("products/bad.jpg", ContentFile(b"no picture"))
    new = ["new.jpg", "bad.jpg", "../new.jpg", "x" * 600, ""]
    Product.objects.bulk_create([Product(photo=name and f"products/{name}") for name in new])
    Product.objects.filter(pk=rows[0].pk).update(photo=None)
    (media / "products/b.jpg").write_bytes(TALL)
    expected = {"added": 1, "updated": 1, "known": 1, "unread": 1, "refused": 2, "gone": 1}
    status, report = sync("--dry-run")
    assert (status, counted(report)) == (1, expected)
    assert images().keys() == {"products/a.jpg", "products/b.jpg", "products/c.jpg"}
    status, report = sync()
    assert (status, counted(report)) == (1, expected)
    assert {one["file"][:16]: one["outcome"] for one in report["examples"]} == {
        "products/bad.jpg": "unread",
        "products/../new.": "refused",
        "products/xxxxxxx": "refused",
    }
    found = images()
    assert found.keys() == {f"products/{name}.jpg" for name in ("b", "c", "new", "bad")}
    assert found["products/b.jpg"].height == 500
    report = json.loads(run_command("regenerate_thumbnails", "--json").stdout)
    assert (report["rendered"], report["failed"]) == (3, 1)
    Product.objects.filter(photo__startswith="products/x").delete()
    Product.objects.filter(photo__contains="..").delete()
    assert sync()[0] == 0  # the render has said of the bad one what there is to say
    assert run_command("audit_thumbnails", "--originals").returncode == 0


def test_command__deletes_no_large_share_of_the_images(add: Any) -> None:
    names = [f"products/{number}.jpg" for number in range(21)]
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{ROOT}/{name}") for name in names)
    status, report = sync()
    assert (status, report["gone"], len(images())) == (1, 21, 21)
    assert "is it the right database?" in report["problem"]
    assert sync("--allow-share", "1")[0] == 0
    assert images() == {}


@pytest.mark.parametrize("arguments", [["shop.Product.back"], ["--database", "other"]])
def test_command__refuses_what_it_does_not_know(arguments: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("track_images", *arguments)
    assert refused.value.returncode == (2 if arguments[0].startswith("shop") else 1)


# --- Pages ----------------------------------------------------------------------------------------


def test_images__of_a_page_take_one_query(
    add: Any, commit: Commit, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    first = add("a.jpg")
    for name in "bcd":
        add(f"{name}.jpg")
    with commit():
        Product.objects.create()
    Product.objects.bulk_create([Product(photo=first.photo.name), Product(photo="unknown.jpg")])
    rows = Product.objects.order_by("pk")
    with django_assert_num_queries(2):
        found = thumbnails_for(rows, "photo")
    with django_assert_num_queries(0):
        known = [asset_of(row.photo) for row in rows]
        assert [found.get(row.pk) for row in rows] == known
    assert [asset and asset.title for asset in known] == ["a", "b", "c", "d", None, "a", None]
    with django_assert_num_queries(1):
        alone = Product(photo=first.photo.name)
        assert asset_of(alone.photo) == asset_of(alone.photo) == known[0]
    for row in rows:
        row.photo = "products/b.jpg"  # what was known is of another file
        assert asset_of(row.photo) == known[1]


def test_tags__show_a_tracked_file(
    add: Any, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    add()
    Product.objects.create()
    page = "{% load thumbnails %}{% for row in rows %}{% thumbnail row.photo %}{% endfor %}"
    template = engines["django"].from_string(page)
    rows = list(Product.objects.order_by("pk"))
    shown = markup.thumbnail(images()["products/a.jpg"])
    with django_assert_num_queries(1):  # the second row has no file
        assert template.render({"rows": rows}) == shown
    rows = list(Product.objects.order_by("pk"))
    thumbnails_for(rows, "photo")
    with django_assert_num_queries(0):
        assert template.render({"rows": rows}) == shown
        assert ThumbnailField().to_representation(rows[1].photo) is None


def test_images__of_a_field_that_is_not_tracked_are_refused(add: Any) -> None:
    row = add()
    with pytest.raises(UsageError, match=r"shop.Product.manual is not tracked"):
        thumbnails_for([row], "manual")
    with pytest.raises(UsageError, match="not tracked"):
        asset_of(row.manual)


# --- What they are not ----------------------------------------------------------------------------


def test_original__of_a_row_is_replaced_by_its_row_alone(
    add: Any, staff_client: Client, staff: User, media: Path
) -> None:
    add()
    [asset] = images().values()
    page = f"/admin/thumbnails/imageasset/{asset.pk}/change/"
    assert 'name="replacement"' not in staff_client.get(page).content.decode()
    staff_client.post(page, {"replacement": BytesIO(TALL)})
    with pytest.raises(UsageError, match="replace it there"):
        importing.replace_original(
            asset, BytesIO(TALL), serving.inspect_upload(BytesIO(TALL)), name="b.jpg"
        )
    assert images().keys() == {"products/a.jpg"}
    asset.delete()
    assert (media / "products/a.jpg").read_bytes() == BLUE


def test_images__of_a_field_are_selected_by_their_root(add: Any, staff_client: Client) -> None:
    add()
    [asset] = images().values()
    ImageAsset.objects.create(original=f"{ROOT}.jpg")
    selection = selection_from({"root": ROOT})
    assert list(selection.assets()) == [asset]
    assert (str(selection), selection.as_options()) == (f"in the root {ROOT}", f"--root {ROOT}")
    page = staff_client.get("/admin/thumbnails/imageasset/", {"root": ROOT}).content.decode()
    assert "shop.Product.photo" in page
    assert "1 image asset" in page
    with pytest.raises(UsageError, match=f"'nas' is not one of the roots: {ROOT}"):
        selection_from({"root": "nas"})


@pytest.mark.usefixtures("queue_server")
def test_row__that_is_saved_or_found_is_rendered_at_once(
    add: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(arrival, "refresh_soon", asked.append)
    settings.THUMBNAIL_EAGER = True
    row = add()
    row.save()
    Product.objects.bulk_create([Product(photo="products/b.jpg")])
    default_storage.save("products/b.jpg", ContentFile(TALL))
    assert sync()[0] == 0
    found = images()
    assert asked == [found["products/a.jpg"].pk]
    [job] = django_rq.get_queue(queue.NOW).jobs
    assert job.args == ([found["products/b.jpg"].pk],)


def test_link__of_the_projects_own_storage_is_followed(
    add: Any, media: Path, tmp_path: Path
) -> None:
    (tmp_path / "large-disk").mkdir()
    media.mkdir()
    (media / "products").symlink_to(tmp_path / "large-disk")
    add()
    [asset] = images().values()
    assert asset.width == 400
    with originals.read(str(asset.original.name)) as original:
        assert original.spool.size_bytes == len(BLUE)


@pytest.mark.usefixtures("tracked_brand")
@pytest.mark.parametrize("path", [ROOT, f"{ROOT}/products", "shop-brand-logo"])
def test_files__of_rows_are_not_imported_by_path(add: Any, path: str) -> None:
    add()
    with pytest.raises(UsageError, match="track_images records them"):
        list(importing.find_files([Path(path)]))


# --- Checks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "field", "fault"),
    [
        ("shop.Produkt", "photo", "There is no model shop.Produkt."),
        ("Product", "photo", "There is no model Product."),
        ("shop.WithLogo", "logo", "There is no model shop.WithLogo."),
        ("shop.Product", "foto", "shop.Product has no field foto."),
        ("shop.Product", "manual", "shop.Product.manual is not an ImageField."),
        ("shop.Book", "photo", "shop.Book has its field from shop.Product: track that one."),
        ("shop.Bargain", "photo", "shop.Bargain has its field from shop.Product: track that one."),
        ("shop.Swappable", "picture", "shop.Swappable is swapped for shop.Brand: track that one."),
    ],
)
def test_field__that_cannot_be_tracked_is_an_error(
    settings: Settings, model: str, field: str, fault: str
) -> None:
    settings.SHOP_PICTURE_MODEL = "shop.Brand"
    track(model, field)
    [message] = checks.check_tracked_fields()
    assert message.id == "thumbnails.E008"
    assert message.msg == f"{model}.{field} cannot be tracked: {fault}"
    untrack(model, field)
    assert checks.check_tracked_fields() == []


@pytest.mark.parametrize("place", ["cache", "root", "folder"])
def test_field__whose_files_are_in_anothers_place_is_an_error(
    settings: Settings, thumbnail_dir: Path, originals_dir: Path, place: str
) -> None:
    if place == "cache":
        settings.MEDIA_ROOT = thumbnail_dir / "media"
    elif place == "root":
        config = settings.STORAGES["originals"]
        options = {**config["OPTIONS"], "roots": {ROOT: "/mnt"}}
        settings.STORAGES = {**settings.STORAGES, "originals": {**config, "OPTIONS": options}}
    else:
        (originals_dir / ROOT).mkdir()
    assert [message.id for message in checks.check_tracked_fields()] == ["thumbnails.E009"]


def test_root__of_a_long_name_is_shortened() -> None:
    found = TrackedField(Product, "photograph_of_the_finished_product_at_home")
    assert found.root == "shop-product-photographofthefinishedprodu-e02279ce"


def test_setting__names_fields(settings: Settings) -> None:
    settings.THUMBNAILS = {"TRACK": ["shop.Product.photo"]}
    assert conf.current().track == ("shop.Product.photo",)

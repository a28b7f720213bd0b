"""The staff's way to a run: filters, the plan, the preview, and the button that starts it."""

from __future__ import annotations

import base64
import io
import re
import threading
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from PIL import Image
from pytest_django import DjangoAssertNumQueries

from tests import pictures
from tests.conftest import MakeAsset
from tests.servers import QueueServer
from thumbnails.models import ImageAsset, Run, State
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.images import serving
from thumbnails.upkeep.runs import control, planning, preview

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/thumbnails/imageasset/"
PLAN = "/admin/thumbnails/imageasset/plan"


def text_of(response: Any) -> str:
    return str(response.content.decode())


def act(client: Client, action: str, *assets: ImageAsset, **data: Any) -> Any:
    """Tick these assets and run the action, following to the plan."""
    query = data.pop("query", "")
    return client.post(
        LIST + query,
        {"action": action, "_selected_action": [asset.pk for asset in assets], **data},
        follow=True,
    )


def address_of(response: Any) -> str:
    """Where a response was redirected to at last."""
    return str(response.redirect_chain[-1][0])


def once(page: str) -> str:
    match = re.search(r'name="once" value="(\w+)"', page)
    assert match is not None
    return match[1]


def press(client: Client, address: str, button: str = "start", **data: Any) -> Any:
    """Open the plan there and press a button of it."""
    page = text_of(client.get(address))
    return client.post(address, {"once": once(page), button: "x", **data}, follow=True)


def names_in(page: str) -> set[str]:
    return set(re.findall(r">([\w-]+)\.(?:jpg|png)</a>", page))


# --- filters --------------------------------------------------------------------------------------


@pytest.fixture
def variety(make_asset: MakeAsset) -> dict[str, ImageAsset]:
    """One image of each kind that the filters tell apart; all are missing but one."""
    made = {
        "upright": make_asset(name="upright.jpg", session="Sea"),
        "turned": make_asset(pictures.jpeg(orientation=6), name="turned.jpg"),
        "cmyk": make_asset(pictures.jpeg(mode="CMYK"), name="cmyk.jpg"),
        "png": make_asset(pictures.png(), name="png.png", session="Sea"),
        "broken": make_asset(pictures.truncated(), name="broken.jpg"),
        "fresh": make_asset(name="fresh.jpg"),
    }
    serving.render_now(made["broken"].pk)
    serving.render_now(made["fresh"].pk)
    return made


FILTERED = [
    ("orientation=2-8", {"turned"}),
    ("format=PNG", {"png"}),
    ("mode=CMYK", {"cmyk"}),
    ("state=failed,fresh", {"broken", "fresh"}),
    ("reason=unreadable", {"broken"}),
    ("session=Sea", {"upright", "png"}),
    ("session=Sea&format=PNG", {"png"}),
    ("megapixels=0-1&state=fresh", {"fresh"}),
    ("megapixels=50-", set()),
    ("from-date=2000-01-01&to-date=2000-12-31", set()),
    ("generated-before=2000-01-01", set()),
    ("q=turn", {"turned"}),
]


@pytest.mark.parametrize(("query", "shown"), FILTERED)
def test_filters__narrow_the_list_and_what_all_that_match_means(
    staff_client: Client, variety: dict[str, ImageAsset], query: str, shown: set[str]
) -> None:
    assert names_in(text_of(staff_client.get(f"{LIST}?{query}"))) == shown
    if shown:
        name = min(shown)
        page = act(
            staff_client,
            "purge_cache",
            variety[name],
            select_across="1",
            query=f"?{query}",
        )
        assert 'value="Purge ' in text_of(page)
        run_page = press(staff_client, address_of(page))
        run = Run.objects.get()
        assert run.total == len(shown), text_of(run_page)
        frozen = {asset_id for chunk in run.chunks.all() for asset_id in chunk.asset_ids}
        assert frozen == {variety[name].pk for name in shown}


def test_filters__show_how_many_there_are(
    staff_client: Client, variety: dict[str, ImageAsset]
) -> None:
    page = text_of(staff_client.get(LIST))
    for words in (
        "Missing (4)",
        "Failed (1)",
        "unreadable (1)",
        "any but upright (1)",
        "6, lies on its left side (1)",
        "JPEG (5)",
        "PNG (1)",
        "CMYK (1)",
        "0 to 1 megapixels (6)",
        "in force (1)",
    ):
        assert words in page


@pytest.mark.parametrize(
    "query", ["state=x", "orientation=99", "from-date=x", "recipe=%25", "megapixels=-"]
)
def test_filters__refuse_nonsense_without_an_error(
    staff_client: Client, variety: dict[str, ImageAsset], query: str
) -> None:
    response = staff_client.get(f"{LIST}?{query}", follow=True)
    assert response.status_code == HTTPStatus.OK


def test_filters__dates_keep_what_the_other_filters_say(
    staff_client: Client, variety: dict[str, ImageAsset]
) -> None:
    page = text_of(staff_client.get(f"{LIST}?format=PNG&q=p&from-date=2000-01-01"))
    form = re.search(r'<form method="get" class="dates-filter">(.*?)</form>', page, re.DOTALL)
    assert form is not None
    hidden = dict(re.findall(r'type="hidden" name="([\w-]+)" value="([\w-]*)"', form[1]))
    assert hidden == {"format": "PNG", "q": "p"}
    assert 'name="from-date" value="2000-01-01"' in form[1]


# --- the plan -------------------------------------------------------------------------------------


def test_plan__says_what_will_happen_and_starts_nothing(
    staff_client: Client, variety: dict[str, ImageAsset], queue_server: QueueServer
) -> None:
    page = text_of(staff_client.get(f"{PLAN}/regenerate/?format=jpeg"))
    assert "<strong>4</strong>: 3 missing, 1 failed" in page
    assert re.search(r"Fresh, skipped</th>\s*<td>1\s", page)
    assert "manage.py regenerate_thumbnails --format JPEG" in page
    assert "thumbnails-now" in page
    assert "No worker is running" in page
    assert "are free" in page
    assert names_in(page) == set()  # the sample shows names beside pictures
    assert page.count('class="state missing"') == 3
    forced = text_of(staff_client.get(f"{PLAN}/regenerate/?format=jpeg&force=1"))
    assert "<strong>5</strong>" in forced
    assert "--format JPEG --force" in forced
    assert not Run.objects.exists()


def test_plan__of_a_purge_counts_the_thumbnails_that_there_are(
    staff_client: Client, variety: dict[str, ImageAsset]
) -> None:
    page = text_of(staff_client.get(f"{PLAN}/purge/"))
    assert "<strong>1</strong>; 5 images have none</td>" in page
    assert 'value="Purge 1 thumbnail"' in page


def test_plan__of_nothing_offers_no_button(staff_client: Client, make_asset: MakeAsset) -> None:
    serving.render_now(make_asset().pk)
    page = text_of(staff_client.get(f"{PLAN}/regenerate/"))
    assert "There is nothing to do" in page
    assert 'name="start"' not in page


def test_start__by_the_button_over_the_ticked(
    staff_client: Client, staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    ticked, other = make_asset(), make_asset()
    plan = act(staff_client, "regenerate_thumbnails", ticked)
    page = text_of(press(staff_client, address_of(plan), note="the fix", rate="2.5"))
    run = Run.objects.get()
    assert (run.kind, run.total, run.started_by) == (Run.Kind.REGENERATE, 1, staff)
    assert (run.note, run.rate, run.scope) == ("the fix", 2.5, {"ids": [ticked.pk]})
    assert run.chunks.get().asset_ids == [ticked.pk]
    assert other.pk not in run.chunks.get().asset_ids
    assert f"Run {run.pk} started" in page


def test_start__skips_what_is_fresh_unless_forced(
    staff_client: Client, variety: dict[str, ImageAsset], queue_server: QueueServer
) -> None:
    press(staff_client, f"{PLAN}/regenerate/")
    press(staff_client, f"{PLAN}/regenerate/?force=1")
    totals = list(Run.objects.order_by("pk").values_list("total", "force"))
    assert totals == [(5, False), (6, True)]


def test_start__a_second_click_starts_nothing(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    address = f"{PLAN}/regenerate/"
    key = once(text_of(staff_client.get(address)))
    answers = [staff_client.post(address, {"once": key, "start": "x"}) for _ in range(3)]
    run = Run.objects.get()
    assert {answer["Location"] for answer in answers} == {f"/admin/thumbnails/run/{run.pk}/change/"}


def test_start__clicks_at_the_same_moment_start_one_run(
    staff: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    first = Client()
    first.force_login(staff)
    key = once(text_of(first.get(f"{PLAN}/regenerate/")))

    def click() -> None:
        client = Client()
        client.cookies = first.cookies
        client.post(f"{PLAN}/regenerate/", {"once": key, "start": "x"})

    from django.db import connections  # noqa: PLC0415  closed in each thread

    def in_thread() -> None:
        try:
            click()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=in_thread) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Run.objects.count() == 1


def test_start__two_people_are_told_of_each_other(
    staff_client: Client, superuser: User, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    other = Client()
    other.force_login(superuser)
    address = f"{PLAN}/regenerate/?state=missing"
    key = once(text_of(other.get(address)))  # opened before the first one starts
    press(staff_client, address)
    run = Run.objects.get()
    told = text_of(other.get(address))
    assert "started by\n    staff" in told
    assert 'name="start"' not in told
    assert f">Go to Run {run.pk}</a>" in told
    previewed = text_of(other.post(address, {"once": key, "preview": "x"}))
    assert 'name="start"' not in previewed
    assert f"Go to Run {run.pk}, which does the same</a>" in previewed
    page = text_of(other.post(address, {"once": key, "start": "x"}, follow=True))
    assert f"Nothing was started: Run {run.pk}, started by staff, does the same" in page
    assert Run.objects.count() == 1
    its_log = text_of(staff_client.get(f"/admin/thumbnails/run/{run.pk}/change/"))
    assert "Also wanted" in its_log
    assert superuser.get_username() in its_log
    control.cancel(run)
    press(other, address)
    assert Run.objects.count() == 2


def test_start__with_the_queue_down_the_run_is_saved_and_said_so(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    make_asset()
    queue_server.kill()
    assert "The queue cannot be reached" in text_of(staff_client.get(f"{PLAN}/regenerate/"))
    page = text_of(press(staff_client, f"{PLAN}/regenerate/"))
    assert "is saved, but the queue cannot be reached" in page
    assert Run.objects.get().total == 1


def test_start__without_room_asks_whether_it_is_meant(
    staff_client: Client,
    make_asset: MakeAsset,
    queue_server: QueueServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_asset()
    monkeypatch.setattr(planning, "free_bytes", lambda: 1000)
    page = text_of(press(staff_client, f"{PLAN}/regenerate/"))
    assert "are needed and 1000" in page
    assert "Start even if the disk seems too small" in page
    assert not Run.objects.exists()
    press(staff_client, f"{PLAN}/regenerate/", ignore_space="on")
    assert Run.objects.get().total == 1


@pytest.mark.parametrize("data", [{"rate": "-1"}, {"rate": "x"}, {"note": "n" * 301}])
def test_start__refuses_a_form_that_means_nothing(
    staff_client: Client, make_asset: MakeAsset, data: dict[str, str]
) -> None:
    make_asset()
    page = text_of(press(staff_client, f"{PLAN}/regenerate/", **data))
    assert "errornote" in page
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("permission", "kind", "action"),
    [
        ("purge_thumbnails", "regenerate", "regenerate_thumbnails"),
        ("regenerate_thumbnails", "purge", "purge_cache"),
    ],
)
def test_plan__is_offered_to_those_with_the_permission_of_its_kind(
    client: Client, make_asset: MakeAsset, permission: str, kind: str, action: str
) -> None:
    make_asset()
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_imageasset", permission])
    )
    client.force_login(user)
    assert f'value="{action}"' not in text_of(client.get(LIST))
    assert client.get(f"{PLAN}/nonsense/").status_code == HTTPStatus.NOT_FOUND


def test_plan__csrf_is_checked(staff: User, make_asset: MakeAsset) -> None:
    make_asset()
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    forged = client.post(f"{PLAN}/regenerate/", {"once": "forged", "start": "x"})
    assert forged.status_code == HTTPStatus.FORBIDDEN
    assert not Run.objects.exists()


@pytest.mark.parametrize("query", ["ids=999", "session=none", "state=x", "to-date=x"])
def test_plan__of_what_there_is_not_says_so(
    staff_client: Client, make_asset: MakeAsset, query: str
) -> None:
    make_asset()
    response = staff_client.get(f"{PLAN}/regenerate/?{query}", follow=True)
    assert response.redirect_chain
    assert "errorlist" in text_of(response) or 'class="error"' in text_of(response)


def test_plan__queries_do_not_grow_with_the_images(
    staff_client: Client,
    make_asset: MakeAsset,
    queue_server: QueueServer,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(30):
        make_asset()
    with django_assert_max_num_queries(16 + preview.PREVIEWED):
        staff_client.get(f"{PLAN}/regenerate/")


# --- the preview ----------------------------------------------------------------------------------


def shown_pictures(page: str) -> list[Image.Image]:
    data = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in data]


def test_preview__shows_old_and_new_and_replaces_nothing(
    staff_client: Client, make_asset: MakeAsset
) -> None:
    stale, broken = make_asset(name="stale.jpg"), make_asset(pictures.truncated(), name="b.jpg")
    serving.render_now(stale.pk)
    wrong = Image.new("RGB", (64, 48), "blue")  # what an older renderer made of it
    content = io.BytesIO()
    wrong.save(content, "JPEG")
    cache.write(stale.thumbnail_name, content.getvalue())
    ImageAsset.objects.filter(pk=stale.pk).update(thumbnail_recipe="0ld")
    before = ImageAsset.objects.values()
    rows, file = list(before), cache.read(stale.thumbnail_name)
    page = text_of(press(staff_client, f"{PLAN}/regenerate/", "preview"))
    assert list(before.all()) == rows
    assert cache.read(stale.thumbnail_name) == file
    assert not Run.objects.exists()
    old, new, marked = shown_pictures(page)
    assert old.convert("RGB").getpixel((5, 5))[2] > 200  # type: ignore[index]
    assert (new.format, new.size, marked.format) == ("JPEG", (64, 48), "PNG")
    assert "% of the pixels differ" in page
    assert "1 differs from what is in the cache, 1 cannot be rendered" in page
    assert "The picture is damaged" in page or "cut" in page or "truncated" in page
    assert str(broken) in page


def test_preview__then_goes_on_with_all(
    staff_client: Client, make_asset: MakeAsset, queue_server: QueueServer
) -> None:
    for _ in range(20):
        make_asset()
    page = text_of(press(staff_client, f"{PLAN}/regenerate/", "preview", note="as previewed"))
    assert page.count('value="Go on with all 20"') == 2  # above the pictures, too
    assert "0 differ from what is in the cache, 12 are new" in page
    assert page.count("New: it has none yet") == 12
    assert len(shown_pictures(page)) == preview.PREVIEWED
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', page))
    fields.pop("csrfmiddlewaretoken", None)
    staff_client.post(f"{PLAN}/regenerate/", {**fields, "start": "x"})
    run = Run.objects.get()
    assert (run.total, run.note) == (20, "as previewed")


def test_preview__of_another_shape_says_so(staff_client: Client, make_asset: MakeAsset) -> None:
    asset = make_asset(pictures.jpeg(orientation=6))
    serving.render_now(asset.pk)
    sideways = io.BytesIO()
    Image.new("RGB", (48, 64)).save(sideways, "JPEG")  # the orientation was ignored
    cache.write(asset.thumbnail_name, sideways.getvalue())
    ImageAsset.objects.update(thumbnail_recipe="0ld")
    page = text_of(press(staff_client, f"{PLAN}/regenerate/", "preview"))
    assert "Other dimensions" in page
    assert [picture.size for picture in shown_pictures(page)] == [(48, 64), (64, 48)]


@pytest.mark.parametrize("old", [b"", b"no picture", pictures.truncated()])
def test_preview__beside_a_damaged_thumbnail_shows_the_new_one(
    staff_client: Client, make_asset: MakeAsset, old: bytes
) -> None:
    asset = make_asset()
    serving.render_now(asset.pk)
    cache.write(asset.thumbnail_name, old)
    ImageAsset.objects.update(thumbnail_recipe="0ld")
    response = press(staff_client, f"{PLAN}/regenerate/", "preview")
    assert response.status_code == HTTPStatus.OK
    assert f'alt="New thumbnail of {asset}"' in text_of(response)
    assert "Differing pixels" not in text_of(response)


def sample_of(assets: ImageAssetQuerySet) -> list[ImageAsset]:
    return [asset for asset, _ in preview.sample(assets, 12)]


def test_sample__is_spread_over_all_and_never_more_than_asked(db: None) -> None:
    ImageAsset.objects.bulk_create(ImageAsset(original=f"{n}.jpg") for n in range(36))
    ids = list(ImageAsset.objects.order_by("pk").values_list("pk", flat=True))
    assert [asset.pk for asset in sample_of(ImageAsset.objects.all())] == ids[::3]
    assert len(sample_of(ImageAsset.objects.filter(pk__in=ids[:5]))) == 5
    assert sample_of(ImageAsset.objects.none()) == []
    # Crowded at one end.
    crowded = ImageAsset.objects.filter(pk__in=[*ids[:14], ids[-1]])
    found = sample_of(crowded)
    assert len(set(found)) == len(found) == 12
    assert found[-1].pk == ids[-1]


def test_sample__has_each_format_orientation_and_size_and_stale_ones_first(db: None) -> None:
    common = {"format": "JPEG", "orientation": 1, "width": 4000, "height": 3000}
    rare = [
        common | {"format": "PNG"},
        common | {"orientation": 6},
        common | {"width": 100},
        common | {"format": "GIF", "width": None},
    ]
    kinds = [common] * 30 + rare + [common] * 36
    ImageAsset.objects.bulk_create(
        ImageAsset(original=f"{n}.jpg", **kind) for n, kind in enumerate(kinds)
    )
    assets = list(ImageAsset.objects.order_by("pk"))
    stale = [asset.pk for asset in (assets[30], *assets[50:53])]  # the PNG and some common ones
    ImageAsset.objects.filter(pk__in=stale).update(thumbnail_path="x", thumbnail_recipe="0ld")
    sampled = preview.sample(ImageAsset.objects.all(), 12)
    assert {asset.pk for asset, _ in sampled} >= {asset.pk for asset in assets[30:34]}
    assert [asset.state for asset, _ in sampled] == [State.STALE] * 2 + [State.MISSING] * 10
    weights = {asset.pk: stands_for for asset, stands_for in sampled}
    assert weights.pop(assets[30].pk) == 1
    assert sum(weights.values()) == pytest.approx(69)
    # With more kinds than room, those that have stale ones, then the most frequent.
    ImageAsset.objects.bulk_create(
        ImageAsset(original=f"{n}.png", format=f"F{n}") for n in range(100, 115)
    )
    found = sample_of(ImageAsset.objects.all())
    assert len(found) == 12
    assert {found[0].format, found[1].format} == {"PNG", "JPEG"}


def test_sample__of_very_many_is_drawn_from_some_of_them(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "ROWS_AT_MOST", 40)
    monkeypatch.setattr(preview, "ROWS_AT_LEAST", 10)
    # Every tenth lies on its side: drawing from every second or fifth would find none or too many.
    ImageAsset.objects.bulk_create(
        ImageAsset(original=f"{n}.jpg", orientation=1 if n % 10 else 6) for n in range(200)
    )
    sampled = preview.sample(ImageAsset.objects.all(), 12)
    assert len(sampled) == 12
    assert {asset.orientation for asset, _ in sampled} == {1, 6}
    turned = sum(stands_for for asset, stands_for in sampled if asset.orientation == 6)
    assert turned == pytest.approx(20, abs=8)
    few = ImageAsset.objects.filter(orientation=6)
    assert len(preview.sample(few, 12)) == 12
    assert sum(stands_for for _, stands_for in preview.sample(few, 12)) == pytest.approx(20)


def test_preview__state_enum_is_told_in_the_sample(
    staff_client: Client, variety: dict[str, ImageAsset]
) -> None:
    page = text_of(staff_client.get(f"{PLAN}/purge/"))
    for state in (State.MISSING, State.FRESH, State.FAILED):
        assert f'class="state {state}"' in page

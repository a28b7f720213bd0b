"""Requests that cannot be meant: refused with a sentence that names the field, nothing started."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from tests.callers import BASE, PROBLEM, Caller, faults_of, problem_of
from tests.conftest import MakeAsset
from thumbnails.api.middleware import BODY_BYTES_AT_MOST
from thumbnails.models import ApiToken, ImageAsset, Run, RunRequest
from thumbnails.upkeep.images import serving

pytestmark = pytest.mark.django_db

REGENERATE, PURGE = "/admin/thumbnails/regenerate", "/admin/thumbnails/purge"
RETRY = "/admin/thumbnails/runs/1/retry"


@pytest.fixture
def api(staff: User) -> Caller:
    return Caller(staff)


@pytest.fixture
def asset(make_asset: MakeAsset) -> ImageAsset:
    asset = make_asset(session="Sea")
    serving.serve(asset)
    return asset


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(autouse=True)
def nothing_started(asset: ImageAsset, thumbnail_dir: Path) -> Iterator[None]:
    """No test here starts anything, nor changes a file or a row."""
    files = seen(thumbnail_dir)
    row = ImageAsset.objects.values().get(pk=asset.pk)
    yield
    assert not Run.objects.exists()
    assert not RunRequest.objects.exists()
    assert seen(thumbnail_dir) == files
    assert ImageAsset.objects.values().get(pk=asset.pk) == row


# --- What is not a JSON object --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        # Not an object, not JSON, and what Python's reader takes though it is not JSON.
        (REGENERATE, b"null"),
        (REGENERATE, b"[]"),
        (REGENERATE, b" "),
        (REGENERATE, b'{"force": true'),
        (REGENERATE, b"{}{}"),
        (REGENERATE, b"force=true"),
        (REGENERATE, b'{"force": NaN}'),
        (REGENERATE, b'{"force": -Infinity}'),
        # Not text.
        (REGENERATE, b"\xff\xfe{}"),
        (REGENERATE, b'{"shard": "\\ud800"}'),
        (REGENERATE, b'{"shard": "\x00"}'),
        # Deeper than Python's stack.
        (REGENERATE, b'{"a":' * 2_000 + b"1" + b"}" * 2_000),
        (REGENERATE, b'{"assetIds": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        (PURGE, b"[1]"),
        ("/training/sessions/1/thumbnails", b"[1]"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_body__that_is_not_a_json_object(api: Caller, path: str, body: bytes) -> None:
    response = api.post_bytes(path, body)
    assert "JSON object" in problem_of(response, HTTPStatus.BAD_REQUEST)["detail"]


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "text/plain", "text/json", "application/xml", "multipart/form-data; boundary=x"),
        *("application/x-www-form-urlencoded", "application/json-patch+json"),
    ],
)
def test_body__of_another_type(api: Caller, content_type: str) -> None:
    response = api.post_bytes(REGENERATE, b'{"force": true}', content_type=content_type)
    problem = problem_of(response, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    assert "application/json" in problem["detail"]


def test_body__over_the_limit(api: Caller) -> None:
    ids = b'{"assetIds": [1%s]}' % (b" " * BODY_BYTES_AT_MOST)
    problem = problem_of(api.post_bytes(REGENERATE, ids), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    assert "1,048,576 bytes" in problem["detail"]
    # One that has just that many is read.
    padded = b'{"assetIds": ["x"]}'.ljust(BODY_BYTES_AT_MOST)
    assert "assetIds.0" in faults_of(api.post_bytes(REGENERATE, padded))


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "١"])
def test_body__of_a_length_that_is_no_number(api: Caller, length: str) -> None:
    response: Any = api.client.generic(
        "POST", BASE + REGENERATE, b"{}", "application/json", CONTENT_LENGTH=length
    )
    assert 400 <= response.status_code < 500
    problem_of(response, HTTPStatus(response.status_code))


def test_body__in_chunks_without_a_length(api: Caller) -> None:
    response: Any = api.client.generic(
        "POST", BASE + REGENERATE, b"", headers={"Transfer-Encoding": "chunked"}
    )
    problem = problem_of(response, HTTPStatus.LENGTH_REQUIRED)
    assert "Content-Length" in problem["detail"]


@pytest.mark.django_db(transaction=True)
def test_body__in_chunks_to_a_real_server(staff: User, live_server: LiveServer) -> None:
    _, secret = ApiToken.objects.issue(staff, "tests")
    address = urlsplit(live_server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    chunks = iter([b'{"assetIds":', b" [1]}"])
    connection.request("POST", BASE + REGENERATE, chunks, headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == HTTPStatus.LENGTH_REQUIRED
    assert response.headers["Content-Type"] == PROBLEM
    assert json.loads(response.read())["status"] == HTTPStatus.LENGTH_REQUIRED
    connection.close()


# --- Bodies that make no sense --------------------------------------------------------------------

HUGE = 10**18
BAD_IDS: list[Any] = [True, None, "1", 1.0, 0, -1, HUGE, 10**400, [1]]


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda bad: repr(bad)[:12])
def test_ids__that_are_not_valid(api: Caller, asset: ImageAsset, bad: Any) -> None:
    body = json.dumps({"assetIds": [asset.pk, bad], "sessionId": bad}).encode()
    assert set(faults_of(api.post_bytes(REGENERATE, body))) == {"assetIds.1", "sessionId"}


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    # Names that the request does not have.
    (REGENERATE, {"Force": True}, "Force"),
    (REGENERATE, {"from_date": "2024-01-01"}, "from_date"),
    (REGENERATE, {"shard": "0a"}, "shard"),
    (PURGE, {"all": True, "force": True}, "force"),
    ("/training/sessions/1/thumbnails", {"dryRun": True}, "dryRun"),
    (RETRY, {"reasons": "crashed"}, "reasons"),
    # Nulls.
    (REGENERATE, {"force": None}, "force"),
    (REGENERATE, {"assetIds": None}, "assetIds"),
    (PURGE, {"all": None}, "all"),
    (RETRY, {"reason": None}, "reason"),
    # Empty lists, which a script sends that found nothing.
    (REGENERATE, {"assetIds": []}, "assetIds"),
    (REGENERATE, {"states": []}, "states"),
    (REGENERATE, {"orientations": []}, "orientations"),
    (PURGE, {"assetIds": [], "all": True}, "assetIds"),
    # Other types.
    (REGENERATE, {"force": "true"}, "force"),
    (REGENERATE, {"dryRun": 1}, "dryRun"),
    (REGENERATE, {"assetIds": "1,2"}, "assetIds"),
    (PURGE, {"all": "yes"}, "all"),
    # Other values.
    (REGENERATE, {"states": ["stale", "done"]}, "states.1"),
    (REGENERATE, {"orientations": [0]}, "orientations.0"),
    (REGENERATE, {"orientations": [9]}, "orientations.0"),
    (REGENERATE, {"orientations": [True]}, "orientations.0"),
    (REGENERATE, {"camera": "x" * 81}, "camera"),
    (REGENERATE, {"software": "\0"}, "software"),
    (REGENERATE, {"colorProfile": ""}, "colorProfile"),
    (REGENERATE, {"compressions": ["zip"]}, "compressions.0"),
    (REGENERATE, {"bitDepths": [0]}, "bitDepths.0"),
    (REGENERATE, {"hasAlpha": "yes"}, "hasAlpha"),
    (REGENERATE, {"minFrames": 3, "maxFrames": 2}, "maxFrames"),
    (REGENERATE, {"notes": ["x"]}, "notes.0"),
    (PURGE, {"shard": "0A"}, "shard"),
    (PURGE, {"shard": "0a\n"}, "shard"),
    (PURGE, {"olderThanDays": -1}, "olderThanDays"),
    (PURGE, {"olderThanDays": 100_000}, "olderThanDays"),
    (PURGE, {"olderThanDays": 7.0}, "olderThanDays"),
    (RETRY, {"reason": "boredom"}, "reason"),
    # Dates.
    (REGENERATE, {"fromDate": "2024-02-30"}, "fromDate"),
    (REGENERATE, {"fromDate": "20240101"}, "fromDate"),
    (REGENERATE, {"fromDate": "2024-01-01T00:00:00"}, "fromDate"),
    (REGENERATE, {"fromDate": "٢٠٢٤-٠١-٠١"}, "fromDate"),
    (REGENERATE, {"fromDate": 1704067200}, "fromDate"),
    (REGENERATE, {"toDate": "9999-12-31"}, "toDate"),
    (REGENERATE, {"toDate": "0001-01-01"}, "toDate"),
    (REGENERATE, {"fromDate": "2024-12-31", "toDate": "2024-01-01"}, "toDate"),
    # What there is not.
    (REGENERATE, {"sessionId": 4711}, "sessionId"),
    (PURGE, {}, "all"),
]
"""Addresses, bodies, and the fields at fault."""


def test_body__names_the_field_at_fault(api: Caller) -> None:
    for path, body, field in FAULTS:
        assert field in faults_of(api.post(path, body)), (path, body)


def test_body__all_that_is_wrong_is_reported_at_once(api: Caller) -> None:
    faults = faults_of(api.post(REGENERATE, {"force": 1, "states": [], "x": 1, "fromDate": "y"}))
    assert set(faults) == {"force", "states", "x", "fromDate"}
    many = api.post(REGENERATE, {"assetIds": ["x"] * 10_000})
    assert len(faults_of(many)) == 20
    assert len(many.content) < 10_000


@pytest.mark.parametrize("path", [REGENERATE, PURGE])
def test_ids__that_do_not_exist_are_named(api: Caller, asset: ImageAsset, path: str) -> None:
    unknown = asset.pk + 1000
    for dry_run in (False, True):
        body = {"assetIds": [asset.pk, unknown, unknown + 1], "dryRun": dry_run}
        detail = faults_of(api.post(path, body))["assetIds"]
        assert f"{unknown}, {unknown + 1}." in detail
        assert str(asset.pk) not in detail.replace(str(unknown), "").split()
    many = {"assetIds": list(range(unknown, unknown + 10_000))}
    response = api.post(path, many)
    assert "and 9,990 more" in faults_of(response)["assetIds"]


@pytest.mark.parametrize(
    ("path", "field", "value", "at_most"),
    [
        (REGENERATE, "states", "stale", 5),
        (REGENERATE, "states", "x", 5),
        (REGENERATE, "orientations", 1, 8),
        (REGENERATE, "bitDepths", 8, 64),
        (REGENERATE, "compressions", "none", 12),
        (REGENERATE, "orientations", 9, 8),
        (REGENERATE, "orientations", {}, 8),
        (REGENERATE, "assetIds", 1, 10_000),
        (PURGE, "assetIds", "x", 10_000),
    ],
)
def test_list__of_too_many_is_one_fault(
    api: Caller, path: str, field: str, value: Any, at_most: int
) -> None:
    """And not one for each of its items."""
    body = json.dumps({field: [value] * 100_000}, separators=(",", ":")).encode()
    faults = faults_of(api.post_bytes(path, body))
    assert faults.keys() == {field}
    assert f"at most {at_most} items" in faults[field]


def test_body__of_too_many_keys(api: Caller) -> None:
    body = json.dumps({f"key{number}": 1 for number in range(50_000)}).encode()
    problem = problem_of(api.post_bytes(REGENERATE, body), HTTPStatus.BAD_REQUEST)
    assert "JSON object" in problem["detail"]


@pytest.mark.parametrize("path", ["/images", "/images/1/thumbnail", "/admin/thumbnails/runs"])
def test_address__of_too_many_parameters(api: Caller, path: str) -> None:
    query = "&".join(f"a{number}=1" for number in range(1_200))
    response = api.client.get(f"{BASE}{path}?{query}")
    assert "parameters" in problem_of(response, HTTPStatus.BAD_REQUEST)["detail"]


def test_key__twice_in_one_object_takes_the_last(api: Caller, asset: ImageAsset) -> None:
    """As JSON readers do; what it means is what is checked."""
    body = b'{"assetIds": [%d], "assetIds": []}' % asset.pk
    assert "assetIds" in faults_of(api.post_bytes(REGENERATE, body))


@pytest.mark.parametrize("query", ["sessionId=1", "force=true", "dryRun=true&assetIds=1", "%00=1"])
def test_query__is_no_body(api: Caller, query: str) -> None:
    """Without it the body would mean more than was asked for."""
    assert faults_of(api.post(f"{REGENERATE}?{query}"))


# --- Headers and addresses ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["é", "a\x00", "a\tb", "x" * 256, "\ud800"])
def test_key__that_is_none(api: Caller, key: str) -> None:
    response: Any = api.client.generic("POST", BASE + REGENERATE, b"", HTTP_IDEMPOTENCY_KEY=key)
    assert "Idempotency-Key" in faults_of(response)


def test_key__that_is_empty(api: Caller) -> None:
    response: Any = api.client.generic("POST", BASE + REGENERATE, b"", HTTP_IDEMPOTENCY_KEY="")
    assert "Idempotency-Key" in faults_of(response)


@pytest.mark.parametrize("secret", ["", "\x00", "é", "\ud800", "x" * 100_000, "a b", "thumb_"])
def test_token__that_is_none(api: Caller, secret: str) -> None:
    response: Any = api.client.get(f"{BASE}/images", HTTP_AUTHORIZATION=f"Bearer {secret}")
    problem_of(response, HTTPStatus.UNAUTHORIZED)


BAD_NUMBERS = ["0", "-1", "01", "1_0", "%201", "x", "٣", str(HUGE)]


@pytest.mark.parametrize("number", [*BAD_NUMBERS, "+1", "9" * 5_000, "1%00", "%ff"])
def test_address__with_an_id_that_is_none(api: Caller, number: str) -> None:
    for response in (
        api.client.get(f"{BASE}/images/{number}"),
        api.client.get(f"{BASE}/images/{number}/thumbnail"),
        api.client.get(f"{BASE}/admin/thumbnails/runs/{number}"),
        api.post(f"/images/{number}/thumbnail/generate"),
        api.post(f"/training/sessions/{number}/thumbnails"),
        api.post(f"/admin/thumbnails/runs/{number}/cancel"),
    ):
        assert "id" in faults_of(response)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"cursor={number}", "cursor") for number in BAD_NUMBERS),
        ("sessionId=x", "sessionId"),
        ("sessionId=4711", "sessionId"),
        *((f"limit={number}", "limit") for number in ("0", "501", "")),
        ("state=fresh&state=%00", "state.1"),
        ("state=", "state.0"),
        ("fromDate=2024-13-01", "fromDate"),
        ("fromDate=", "fromDate"),
        ("fromDate=2024-01-02&toDate=2024-01-01", "toDate"),
    ],
)
def test_images__filters_that_make_no_sense(api: Caller, query: str, field: str) -> None:
    assert field in faults_of(api.client.get(f"{BASE}/images?{query}"))


@pytest.mark.parametrize("query", ["cursor=12", "cursor=-1-2", "outcome=lost", "reason=none"])
def test_report__filters_that_make_no_sense(api: Caller, query: str) -> None:
    field = query.partition("=")[0]
    assert field in faults_of(api.client.get(f"{BASE}/admin/thumbnails/runs/1/report?{query}"))


def test_nothing_started__would_notice(asset: ImageAsset, thumbnail_dir: Path) -> None:
    """The look at the files that all of these tests rely on."""
    file = thumbnail_dir / asset.thumbnail_name
    before = seen(thumbnail_dir)
    assert str(file) in before
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert seen(thumbnail_dir) != before
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("path", ["images", "admin/thumbnails/runs"])
def test_list__refuses_a_parameter_that_it_does_not_know(staff_client: Client, path: str) -> None:
    answer = staff_client.get(f"/api/v1/{path}?sate=fresh")
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert answer.json()["errors"][0]["field"] == "sate"

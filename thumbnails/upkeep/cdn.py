"""Having a CDN drop its copies of thumbnails that have changed.

The database keeps their addresses until the CDN has taken them; the workers send them.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from django.utils import timezone
from django.utils.http import parse_http_date_safe

from thumbnails import conf
from thumbnails.batching import batched
from thumbnails.exceptions import CdnFailure, QueueDown
from thumbnails.models import CdnPurge
from thumbnails.rendering.pool import never
from thumbnails.upkeep import queue

logger = logging.getLogger(__name__)

PER_REQUEST = 100
"""Addresses; Cloudflare takes no more."""
ROWS_PER_REQUEST = 25
"""Single renders have rows of a few addresses."""
TIMEOUT_SECONDS = 10.0
"""For the connection, and for each part of the answer."""
ANSWER_BYTES = 65_536
"""Of an answer that is read, so that the connection can be used again."""

TURN = "cdn"
TURN_SECONDS = 60.0
"""For which a worker has the turn from its last request: another one takes over if it dies."""
JOB_SECONDS = 30.0
"""After which a job leaves the rest to the next one, behind what waits in the queue meanwhile: a
single worker would refresh nothing for visitors until all is purged."""
PAUSE_SECONDS = 5.0
"""Until the next worker looks for more, and at least after a failure."""
BACKOFF_SECONDS_AT_MOST = 300.0
RETRY_AFTER_SECONDS_AT_MOST = 3600.0
KEPT = timedelta(days=7)
"""While the CDN refuses them. They are dropped then, so that the table does not grow for ever."""


def record(urls: Sequence[str], **_: object) -> None:
    """Record addresses, for the workers to purge: a receiver of `thumbnails_changed`."""
    CdnPurge.objects.bulk_create(CdnPurge(urls=part) for part in batched(urls, PER_REQUEST))


def enqueue_in_turn() -> None:
    """Enqueue a job that calls `purge` if there is anything to purge. Raises QueueDown.

    Of all workers one does so at a time, and none while the CDN wants to be left alone.
    """
    if conf.current().cdn and CdnPurge.objects.exists() and queue.is_my_turn(TURN, TURN_SECONDS):
        queue.enqueue_cdn_purge()


def purge(should_stop: Callable[[], bool] = never) -> None:
    """Have the CDN drop what is recorded, until nothing is left, it fails, or JOB_SECONDS are over.

    After a failure it is tried again, later each time, or when the CDN asks for it.
    """
    pause_seconds = PAUSE_SECONDS
    ends_at = time.monotonic() + JOB_SECONDS
    while not should_stop() and (batch := _next_batch()):
        _have_turn_for(TURN_SECONDS)
        try:
            _send(batch.urls)
        except CdnFailure as error:
            pause_seconds = _backoff_seconds(batch, error)
            details = (len(batch.urls), pause_seconds, error)
            logger.warning("%d addresses are purged again in %d s: %s", *details)
            _drop_old()
            break
        CdnPurge.objects.filter(pk__in=batch.rows).delete()
        if time.monotonic() >= ends_at:
            break
    _have_turn_for(pause_seconds)


def _have_turn_for(seconds: float) -> None:
    with suppress(QueueDown):  # then no worker takes a turn
        queue.take_turn(TURN, seconds)


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: list[int]
    urls: list[str]
    """Each once."""
    age: timedelta
    """Of the oldest."""


def _next_batch() -> _Batch | None:
    urls: dict[str, None] = {}
    rows: list[CdnPurge] = []
    for row in CdnPurge.objects.order_by("pk")[:ROWS_PER_REQUEST]:
        merged = {**urls, **dict.fromkeys(row.urls)}
        if rows and len(merged) > PER_REQUEST:
            break
        urls = merged
        rows.append(row)
    if not rows:
        return None
    return _Batch([row.pk for row in rows], list(urls), timezone.now() - rows[0].created_at)


def _backoff_seconds(batch: _Batch, error: CdnFailure) -> float:
    # As long as it has been failing, so that the time doubles with each failure.
    backoff = min(max(batch.age.total_seconds(), PAUSE_SECONDS), BACKOFF_SECONDS_AT_MOST)
    return min(max(backoff, error.retry_after_seconds), RETRY_AFTER_SECONDS_AT_MOST)


def _drop_old() -> None:
    old = CdnPurge.objects.filter(created_at__lt=timezone.now() - KEPT)
    if number := old.delete()[0]:
        logger.error("%d batches of addresses were not purged for %s: dropped", number, KEPT)


# --- HTTP -----------------------------------------------------------------------------------------


def _send(urls: Iterable[str]) -> None:
    """Raises CdnFailure; some may be purged then, which is harmless."""
    settings = conf.current()
    for origin in settings.cdn:
        if settings.cdn_api:
            api = urlsplit(settings.cdn_api)
            target = f"{api.path}?{api.query}" if api.query else api.path
            body = json.dumps({"files": [f"{origin}{url}" for url in urls]}).encode()
            _request("POST", settings.cdn_api, [target], body)
        else:
            _request("PURGE", origin, urls)


def _request(method: str, server: str, targets: Iterable[str], body: bytes | None = None) -> None:
    """Send one request for each target, over one connection. Raises CdnFailure."""
    headers = _headers()
    parts = urlsplit(server)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        with closing(connect(parts.netloc, timeout=TIMEOUT_SECONDS)) as connection:
            for target in targets:
                connection.request(method, target, body, headers)
                with connection.getresponse() as response:
                    _check(method, response)
                    response.read(ANSWER_BYTES)
                    if not response.isclosed():
                        connection.close()  # the next request opens another one
    except (OSError, HTTPException) as error:
        raise CdnFailure(f"{parts.netloc} does not answer {method}: {error!r}") from error


def _headers() -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "django-thumbnail-upkeep"}
    if token := conf.current().cdn_token:
        name, is_header, value = token.partition(": ")
        headers |= {name: value} if is_header else {"Authorization": f"Bearer {token}"}
    return headers


def _check(method: str, response: HTTPResponse) -> None:
    """Raises CdnFailure unless the copies are gone."""
    has_none = method == "PURGE" and response.status == HTTPStatus.NOT_FOUND
    if not (has_none or HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES):
        raise CdnFailure(
            f"It answered {method} with status {response.status}.",
            retry_after_seconds=_retry_after_seconds(response.headers.get("Retry-After", "")),
        )


def _retry_after_seconds(header: str) -> float:
    """Of a number of seconds or a date; 0 for anything else."""
    if header.isdecimal():
        return float(header)
    at = parse_http_date_safe(header)
    return at - time.time() if at else 0.0

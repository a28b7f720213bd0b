"""The site's middleware."""

import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from secrets import token_hex
from threading import Lock
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from thumbsite.logs import request_id

QUEUE_PAGES = "django_rq.admin"
"""django-rq's own permission, which it asks for only to show a link."""

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile("[A-Za-z0-9_.-]{1,64}")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
STYLE_ATTRIBUTES = "; style-src-attr 'unsafe-inline'"
"""Placeholders of thumbnails are backgrounds in style attributes, which load and run nothing."""
DEBUG_PAGES = {HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR}


def request_ids(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Give each request an id, in what is logged of it and in the response's X-Request-ID.

    Behind a proxy that sends one in that header, it is the proxy's.
    """
    is_behind_proxy = settings.NINJA_NUM_PROXIES > 0

    def middleware(request: HttpRequest) -> HttpResponseBase:
        given = request.META.get("HTTP_X_REQUEST_ID", "") if is_behind_proxy else ""
        token = request_id.set(given if REQUEST_ID.fullmatch(given) else token_hex(8))
        try:
            response = get_response(request)
            response.headers["X-Request-ID"] = request_id.get()
            return response
        finally:
            request_id.reset(token)

    return middleware


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Let pages load only what comes from the site itself, and run nothing that is inline."""
    policy = CONTENT_SECURITY_POLICY
    if settings.THUMBNAIL_PLACEHOLDERS:
        policy += STYLE_ATTRIBUTES

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        # Django's debug pages have their scripts and styles inline.
        if not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware


def headers_alone_for_head(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer HEAD as GET but without the body, which gunicorn otherwise drops with a warning."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.method == "HEAD" and isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response

    return middleware


def uncounted_proxies_logged(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Log the first X-Forwarded-For that arrives while PROXIES is 0.

    Only the first one of a process: any client can send the header, and must not fill the log.
    """
    if settings.NINJA_NUM_PROXIES > 0:
        raise MiddlewareNotUsed
    first = Lock()

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if "HTTP_X_FORWARDED_FOR" in request.META and first.acquire(blocking=False):
            logger.warning(
                "A request has X-Forwarded-For, which is ignored since PROXIES is 0. If there is a "
                "proxy in front, set PROXIES to the number of proxies: now all clients share one "
                "limit on failed logins, and a stranger can lock the staff out. If there is none, "
                "a client made the header up; ignore this. It is logged once in each process."
            )
        return get_response(request)

    return middleware


class QueuePages:
    """Keeps django-rq's pages for users with its permission: django-rq lets in all staff.

    Told by the view and not by its address, so it holds wherever the pages are mounted.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], *_: object
    ) -> HttpResponseBase | None:
        model_admin = getattr(view, "model_admin", None)  # of a page that Django's admin made
        own, admins = getattr(view, "__module__", ""), type(model_admin).__module__
        is_queue_page = "django_rq" in (own.partition(".")[0], admins.partition(".")[0])
        if not is_queue_page or request.user.has_perm(QUEUE_PAGES):
            return None
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))

"""Guessing passwords is slow: a limit on failed logins."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from thumbnails.throttling import Throttle, TooMany, client_address

FAILED_LOGINS = Throttle(name="failed-logins", seconds=300)
FAILURES_OF_NAME, FAILURES_OF_ADDRESS = 5, 50
"""For one name from one address, and for all names from it, which many people may share."""


def throttled_logins(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer 429 to who failed too often; the right password does not help earlier."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.method == "POST" and request.path == reverse("admin:login"):
            try:
                for who, at_most in _who(request, request.POST.get("username", "")):
                    FAILED_LOGINS.demand_room(who, at_most=at_most)
            except TooMany as error:
                return HttpResponse(
                    f"Too many failed logins. Try again in {error.wait_seconds} seconds.\n",
                    status=HTTPStatus.TOO_MANY_REQUESTS,
                    content_type="text/plain",
                    headers={"Retry-After": str(error.wait_seconds)},
                )
        return get_response(request)

    return middleware


@receiver(user_login_failed)
def _count(credentials: dict[str, Any], request: HttpRequest | None = None, **_: object) -> None:
    if request is None:  # no web request
        return
    for who, at_most in _who(request, str(credentials.get("username", ""))):
        try:
            FAILED_LOGINS.count(who, at_most=at_most)
        except TooMany:  # the next one will be told
            continue


def _who(request: HttpRequest, name: str) -> list[tuple[str, int]]:
    address = client_address(request)
    return [
        (f"{address} {name.lower()}", FAILURES_OF_NAME),
        (address, FAILURES_OF_ADDRESS),
    ]

"""A rate limit on password guesses."""

import unicodedata
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from thumbnails.exceptions import TooMany
from thumbnails.throttling import Throttle, client_address

FAILED_LOGINS = Throttle(name="failed-logins", seconds=300)
FAILURES_OF_NAME, FAILURES_OF_ADDRESS = 5, 50
"""For one name from one address, and for all names from it, which many people may share."""


class LoginThrottle:
    """The first of AUTHENTICATION_BACKENDS: counts every attempt to log in, authenticates none.

    It runs before the others check the password, wherever `authenticate` is called with a request,
    so that attempts made at the same time cannot all be checked before the first one is counted.
    It has no `get_user`, so no session is bound to it.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **credentials: Any,
    ) -> None:
        """Raises TooMany if the name or the address has failed too often."""
        name = credentials.get(get_user_model().USERNAME_FIELD) if username is None else username
        if request is None or name is None or password is None:
            return  # no web request, or nothing that a password could be checked for
        address, receipts = client_address(request), []
        limits = [
            (f"{address} {_normalized(name)}", FAILURES_OF_NAME),
            (address, FAILURES_OF_ADDRESS),
        ]
        try:
            for who, at_most in limits:
                receipts.append(FAILED_LOGINS.count(who, at_most=at_most))
        except TooMany:
            _give_back(receipts)
            raise
        cast(Any, request).login_receipts = receipts


@receiver(user_logged_in)
def _succeeded(request: HttpRequest, **_: object) -> None:
    """Only failures stay counted.

    A right password alone is not a success: the admin refuses users who are not staff with the
    same message as a wrong password, and the limit must not reveal the difference.
    """
    _give_back(getattr(request, "login_receipts", []))


def _give_back(receipts: list[str | None]) -> None:
    for receipt in receipts:
        FAILED_LOGINS.give_back(receipt)


def _normalized(name: str) -> str:
    """Returns one spelling of what the login form or the database may take for the same name."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


class LoginThrottleMiddleware:
    """Answers 429 when the LoginThrottle refuses; the right password does not help earlier."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, TooMany):
            return None
        return HttpResponse(
            f"Too many failed logins. Try again in {exception.wait_seconds} seconds.\n",
            status=HTTPStatus.TOO_MANY_REQUESTS,
            content_type="text/plain",
            headers={"Retry-After": str(exception.wait_seconds)},
        )

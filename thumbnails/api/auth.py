"""Authentication and permissions: staff, by session with CSRF or by token."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.http import HttpRequest
from ninja.security import HttpBearer, SessionAuth
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from thumbnails.api.errors import ProblemError
from thumbnails.models import ApiToken, Run
from thumbnails.throttling import Throttle, client_address

if TYPE_CHECKING:  # for the site's own users; another project may have others
    from django.contrib.auth.models import User

VIEW_IMAGES = "thumbnails.view_imageasset"
VIEW_RUNS = "thumbnails.view_run"
REGENERATE, PURGE = Run.Kind.REGENERATE.permission, Run.Kind.PURGE.permission

FAILED_TOKENS = Throttle(name="failed-tokens")
FAILURES_AT_MOST = 10
"""Wrong tokens from one address in a minute; more are answered 429. Valid ones are not limited."""


class ApiRequest(HttpRequest):
    """A request that was authenticated."""

    user: "User"


class Session(SessionAuth):
    """A user who is logged in to the site; unsafe methods need the CSRF token, too."""

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: HttpRequest) -> "User | None":
        # In this order: an anonymous user lacks a login and not a CSRF token.
        user = self.authenticate(request, None)
        if user is None:
            return None
        if check_csrf(request):
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "The CSRF token is missing or wrong: send it as X-CSRFToken."
            )
        return permitted(user, self.permissions)


class Token(HttpBearer):
    """`Authorization: Bearer` and a token that is neither revoked nor expired."""

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions

    def authenticate(self, request: HttpRequest, token: str) -> "User":
        found = ApiToken.objects.with_secret(token.strip())
        if found is None:
            FAILED_TOKENS.count(client_address(request), at_most=FAILURES_AT_MOST)
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "The token is unknown, expired or revoked.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        found.note_use()
        request.user = found.user
        return permitted(found.user, self.permissions)


def staff_with(*permissions: str) -> list[AuthBase]:
    """Returns the authentication for staff who have at least one of the permissions."""
    return [Token(*permissions), Session(*permissions)]


def permitted(user: "User", permissions: Sequence[str]) -> "User":
    """Returns the user. Raises ProblemError (403) unless it is staff with one of these."""
    if not user.is_staff or not any(map(user.has_perm, permissions)):
        raise ProblemError(
            HTTPStatus.FORBIDDEN, f"This needs a staff user with {' or '.join(permissions)}."
        )
    return user

"""Who asks, and what they may: staff, by session with CSRF or by token."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.http import HttpRequest
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
"""Wrong tokens from one address in a minute that are answered 401; then 429. Right ones pass."""


class ApiRequest(HttpRequest):
    """A request after one of the below let it in."""

    user: "User"


class Session(AuthBase):
    """Whoever is logged in to the site; what changes something needs the CSRF token, too."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = "sessionid"
    csrf = True  # lets the docs page send the token

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: HttpRequest) -> "User | None":
        if _bearer(request) is not None or not request.user.is_authenticated:
            return None
        if check_csrf(request):
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "The CSRF token is missing or wrong: send it as X-CSRFToken."
            )
        return _permitted(request.user, self.permissions)


class Token(AuthBase):
    """`Authorization: Bearer` and a token that is neither revoked nor expired."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: HttpRequest) -> "User | None":
        secret = _bearer(request)
        if secret is None:
            return None
        token = ApiToken.objects.with_secret(secret)
        if token is None:
            FAILED_TOKENS.count(client_address(request), at_most=FAILURES_AT_MOST)
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "The token is unknown, expired or revoked.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        token.note_use()
        request.user = token.user
        return _permitted(token.user, self.permissions)


def staff_with(*permissions: str) -> list[AuthBase]:
    """Lets staff in who have any one of the permissions."""
    return [Token(*permissions), Session(*permissions)]


def demand(request: ApiRequest, permission: str) -> None:
    """For what only the thing itself tells who may. Raises ProblemError (403)."""
    _permitted(request.user, [permission])


def _permitted(user: "User", permissions: Sequence[str]) -> "User":
    if not user.is_staff or not any(map(user.has_perm, permissions)):
        raise ProblemError(
            HTTPStatus.FORBIDDEN, f"This needs a staff user with {' or '.join(permissions)}."
        )
    return user


def _bearer(request: HttpRequest) -> str | None:
    """The secret shown; None where there is none, as with a proxy's own Basic."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None

"""API tokens, by which scripts authenticate."""

import hashlib
import logging
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.db.models import Q
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)

PREFIX = "thumb_"
"""Makes a token recognizable, also to scanners for leaked secrets."""
HINT_LENGTH = len(PREFIX) + 4
USE_NOTED_EVERY = timedelta(minutes=1)
"""Minimum interval between updates of `last_used_at`."""


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def issue(
        self, user: "User", name: str, *, expires_at: datetime | None = None
    ) -> "tuple[ApiToken, str]":
        """Returns a new token and its secret, which cannot be retrieved later."""
        token = self.model(user=user, name=name, expires_at=expires_at)
        secret = token.make_secret()
        token.save()
        return token, secret

    def valid(self) -> Self:
        """Neither revoked nor expired."""
        unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        return self.filter(unexpired, revoked_at=None)

    def with_secret(self, secret: str) -> "ApiToken | None":
        """The valid token with this secret, of a user who may log in and is at hand."""
        token = self.valid().select_related("user").filter(digest=_digest(secret)).first()
        # Asked of the user: not every user model has a column for it.
        return token if token is not None and token.user.is_active else None

    def revoke(self) -> int:
        """Revoke them. Returns how many were not revoked before."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class ApiToken(models.Model):
    """Grants the bearer of its secret the user's permissions in the API."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="thumbnail_tokens"
    )
    name = models.CharField(max_length=100, help_text="What it is for, such as “nightly import”.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField("begins with", max_length=16, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    def make_secret(self) -> str:
        """Returns a new secret and sets its digest and hint; the secret itself is not stored."""
        # 256 random bits cannot be guessed, so one round of SHA-256 is enough.
        secret = PREFIX + secrets.token_urlsafe(32)
        self.digest = _digest(secret)
        self.hint = secret[:HINT_LENGTH]
        return secret

    def note_use(self) -> None:
        """Record that it was used, at most once in USE_NOTED_EVERY."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at >= USE_NOTED_EVERY:
            ApiToken.objects.filter(pk=self.pk).update(last_used_at=now)
            self.last_used_at = now


# --- Passwords ------------------------------------------------------------------------------------

_KEPT = "keeps_api_tokens"
_REVOKED = "revoked_api_tokens"


def keep_tokens(user: Any) -> None:
    """Keep the user's tokens when this instance saves a new password.

    Only for users who change their own password.
    """
    setattr(user, _KEPT, True)


def number_revoked(user: Any) -> int:
    """How many tokens were revoked when this instance saved a new password."""
    return int(getattr(user, _REVOKED, 0))


def revoke_before_reset(
    instance: Any, using: str, update_fields: Collection[str] | None, **_: Any
) -> None:
    """Revoke a user's tokens before a new password is saved: a receiver of `pre_save`.

    Resetting a password is to end all access gained with the old one, which may include tokens.
    QuerySet.update and bulk_update send no signal and revoke nothing. `keep_tokens` makes an
    exception.
    """
    User = get_user_model()  # noqa: N806  it is a class
    if not isinstance(instance, User) or getattr(instance, _KEPT, False):
        return
    if update_fields is not None and "password" not in update_fields:
        return
    if _is_rehashed(instance, update_fields):
        return
    users = User._base_manager.using(using)  # noqa: SLF001  Django documents it
    before = users.filter(pk=instance.pk).values_list("password", flat=True).first()
    if before is None or before == instance.password:
        return
    number = ApiToken.objects.using(using).filter(user=instance.pk).revoke()
    setattr(instance, _REVOKED, number)
    if number:
        logger.info("Revoked %s API tokens of user %s: new password", number, instance.pk)


def _is_rehashed(user: AbstractBaseUser, update_fields: Collection[str] | None) -> bool:
    """Whether it is the same password with a newer hash, as Django saves it at a login."""
    # Django sets `_password` with a new password.
    was_set = getattr(user, "_password", None) is not None
    return set(update_fields or ()) == {"password"} and not was_set and user.has_usable_password()

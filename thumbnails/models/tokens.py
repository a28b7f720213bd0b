"""Tokens of the API: keys that scripts show instead of logging in."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PREFIX = "thumb_"
"""Lets people, and scanners for leaked secrets, tell what it is."""
HINT_LENGTH = len(PREFIX) + 4
USE_NOTED_EVERY = timedelta(minutes=1)
"""A token that is used all the time costs no write each time."""


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def issue(
        self, user: "User", name: str, *, expires_at: datetime | None = None
    ) -> "tuple[ApiToken, str]":
        """A new token and its secret, which nobody can look up again."""
        token = self.model(user=user, name=name, expires_at=expires_at)
        secret = token.make_secret()
        token.save()
        return token, secret

    def valid(self) -> Self:
        """Neither revoked nor expired, and of somebody who may log in."""
        unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        return self.filter(unexpired, revoked_at=None, user__is_active=True)

    def with_secret(self, secret: str) -> "ApiToken | None":
        """The valid token with this secret, its user at hand."""
        return self.valid().select_related("user").filter(digest=_digest(secret)).first()

    def revoke(self) -> int:
        """From now on they open nothing; gives how many did until now."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class ApiToken(models.Model):
    """Lets whoever shows its secret do over the API what its user may."""

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
        """A new secret, kept only as its digest: whoever calls this shows it to its owner."""
        # 256 random bits cannot be guessed, so that one round of SHA-256 protects them.
        secret = PREFIX + secrets.token_urlsafe(32)
        self.digest = _digest(secret)
        self.hint = secret[:HINT_LENGTH]
        return secret

    def note_use(self) -> None:
        """Write down that it was used, once in USE_NOTED_EVERY."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at >= USE_NOTED_EVERY:
            ApiToken.objects.filter(pk=self.pk).update(last_used_at=now)
            self.last_used_at = now

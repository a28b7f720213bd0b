"""Addresses whose copies a CDN has yet to drop."""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class CdnPurge(models.Model):
    """Some addresses to be purged; one that changes again is in a further row."""

    urls = models.JSONField()
    """Without a host."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"{len(self.urls)} addresses"

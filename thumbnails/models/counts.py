"""Cached counts of all assets, which take a while to count."""

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.utils import timezone

from thumbnails.models.assets import ImageAsset


class CachedCount(models.Model):
    """Some related numbers as they were last counted."""

    name = models.CharField(max_length=30, unique=True)
    value = models.JSONField()
    counted_at = models.DateTimeField()
    took_seconds = models.FloatField()

    class Meta:
        db_table = "thumbnails_tally"  # its name in the first version
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return self.name

    @property
    def age(self) -> timedelta:
        return timezone.now() - self.counted_at


class Cache(ImageAsset):
    """The cache as a whole: a model for the admin's overview, without a table."""

    class Meta:
        proxy = True
        default_permissions: ClassVar = ()
        verbose_name_plural = "cache"

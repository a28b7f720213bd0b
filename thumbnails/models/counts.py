"""Numbers about all assets, counted now and then and kept: counting them takes a while."""

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.utils import timezone

from thumbnails.models.assets import ImageAsset


class CachedCount(models.Model):
    """Some numbers that belong together, as they were when they were counted."""

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
    """All thumbnails as one thing that staff look at: a place in the admin, and no table."""

    class Meta:
        proxy = True
        default_permissions: ClassVar = ()
        verbose_name_plural = "cache"

"""The recipes that processes of the site were started with, and the one in force.

While a new version is rolled out, processes of two recipes run side by side. The one whose
process was started last is in force for all of them: what it makes is fresh, and no process makes
anything by another one. After a rollback the old recipe is the one that was started last.
"""

import logging
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from typing import ClassVar

from django.core.signals import request_started, setting_changed
from django.db import Error as DatabaseError
from django.db import connections, models, transaction
from django.db.models.functions import Now

from thumbnails import conf
from thumbnails.rendering import Recipe
from thumbnails.storage import deadlines

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How long a process may go by what it knew: a process of another recipe may have been started."""
AGAIN_SECONDS = 5.0
"""How long it waits before it tries again to say that it was started."""

_started_at = time.monotonic()


def own_recipe() -> Recipe:
    """How this process makes thumbnails, by its settings and its renderer."""
    return _recipe_of(conf.current())


@lru_cache(maxsize=4)
def _recipe_of(settings: conf.ThumbnailSettings) -> Recipe:
    # One value for all who ask, so that its digest is computed once and not for each request.
    return Recipe(size_px=settings.size_px, quality=settings.quality)


class KnownRecipe(models.Model):
    """A recipe that a process was started with."""

    digest = models.CharField(max_length=16, primary_key=True)
    size_px = models.PositiveIntegerField()
    quality = models.PositiveIntegerField()
    background = models.JSONField(default=list)
    renderer = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_index=True)
    """When the latest of its processes was started, by the database's clock."""

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return self.label

    @property
    def recipe(self) -> Recipe:
        red, green, blue = self.background
        return Recipe(
            size_px=self.size_px,
            quality=self.quality,
            background=(red, green, blue),
            renderer=self.renderer,
        )

    @property
    def label(self) -> str:
        """For people: `256 px, quality 85, renderer 1`."""
        return label_of(self.recipe)


def label_of(recipe: Recipe) -> str:
    """For people: `256 px, quality 85, renderer 1`."""
    return f"{recipe.size_px} px, quality {recipe.quality}, renderer {recipe.renderer}"


class _Known:
    """What this process knows of the table."""

    def __init__(self) -> None:
        self.in_force: Recipe | None = None
        """None where no process has said anything."""
        self.looked_at = float("-inf")
        self.announced = ""
        self.announce_at = float("-inf")


_known = _Known()


def recipe_in_force() -> Recipe:
    """The recipe whose process was started last, as known for at most LOOK_SECONDS.

    This process's own where no process has said that it was started, or the database is away.
    """
    if time.monotonic() - _known.looked_at > LOOK_SECONDS:
        try:
            # A failed query must not spoil the transaction that it happens to be in.
            with transaction.atomic():
                look()
        except DatabaseError:
            _known.looked_at = time.monotonic()
    return _known.in_force or own_recipe()


def look() -> Recipe:
    """The recipe in force, as the database says now."""
    latest = KnownRecipe.objects.order_by("-started_at", "digest").first()
    _known.in_force = None if latest is None else latest.recipe
    _known.looked_at = time.monotonic()
    return _known.in_force or own_recipe()


def is_own_in_force() -> bool:
    """Whether this process may make thumbnails, as the database says now."""
    announce()
    return look().digest == own_recipe().digest


def announce() -> None:
    """Record, once a process, that one with this recipe was started. For processes that render.

    Does nothing where the database is away; the next call tries again.
    """
    own = own_recipe()
    now = time.monotonic()
    if _known.announced == own.digest or now < _known.announce_at:
        return
    _known.announce_at = now + AGAIN_SECONDS
    started_at = Now() - timedelta(seconds=now - _started_at)
    try:
        with transaction.atomic():
            known = KnownRecipe.objects.filter(digest=own.digest)
            if not known.exists():
                values = {**asdict(own), "background": list(own.background)}
                new = KnownRecipe(digest=own.digest, started_at=started_at, **values)
                KnownRecipe.objects.bulk_create([new], ignore_conflicts=True)
            known.filter(started_at__lt=started_at).update(started_at=started_at)
            look()
    except DatabaseError as error:
        logger.warning("The recipe of this process cannot be recorded: %s", error)
    else:
        _known.announced = own.digest


def announce_with_first_request(**_: object) -> None:
    """As `announce`, for processes that serve pages (Django's `request_started`).

    In a thread: a hit needs no database, and does not wait for one.
    """
    if _known.announced:
        request_started.disconnect(announce_with_first_request)
    elif time.monotonic() >= _known.announce_at:
        with suppress(TimeoutError):
            deadlines.begin(_announce_in_thread, place="recipes")


def _announce_in_thread() -> None:
    try:
        announce()
    finally:
        connections.close_all()


def labels() -> dict[str, str]:
    """The names for people of all known recipes, by digest. One query."""
    own = own_recipe()
    known = {known.digest: known.label for known in KnownRecipe.objects.all()}
    return {own.digest: label_of(own), **known}


def _forget(**_: object) -> None:
    """With other settings it is another process, as it were."""
    global _known, _started_at  # noqa: PLW0603
    _known = _Known()
    _started_at = time.monotonic()


setting_changed.connect(_forget)

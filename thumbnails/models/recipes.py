"""The recipes that processes of the site were started with, and the one in force.

During a deployment, processes with two recipes run side by side. The recipe of the process
started last is in force for all of them: its thumbnails are fresh, and no process renders with
another one. After a rollback the old recipe is the one started last.
"""

import logging
import time
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, ClassVar, Self

from django.core.signals import request_started, setting_changed
from django.db import Error as DatabaseError
from django.db import connections, models, transaction
from django.db.models.functions import Now

from thumbnails import conf
from thumbnails.rendering import Recipe, Variant, profile_digest
from thumbnails.storage import deadlines

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How long a process caches the recipe in force."""
AGAIN_SECONDS = 5.0
"""How long it waits before it tries again to record its own recipe."""

UNSTAMPED = "unstamped"
"""Stands for the recipe of a recorded thumbnail that another program made."""

_started_at = time.monotonic()


def own_recipe() -> Recipe:
    """Returns the recipe of this process's settings and renderer."""
    return _recipe_of(conf.current())


@lru_cache(maxsize=4)
def _recipe_of(settings: conf.ThumbnailSettings) -> Recipe:
    # One shared instance, so that its digest is computed once and not for each request.
    return Recipe(
        size_px=settings.size_px,
        quality=settings.quality,
        variants=settings.variants,
        cmyk_profile=profile_digest(settings.cmyk_profile),
    )


class KnownRecipe(models.Model):
    """A recipe that a process was started with."""

    digest = models.CharField(max_length=16, primary_key=True)
    size_px = models.PositiveIntegerField()
    quality = models.PositiveIntegerField()
    background = models.JSONField(default=list)
    renderer = models.PositiveIntegerField()
    variants = models.JSONField(
        default=dict, db_default=models.Value({}, output_field=models.JSONField())
    )
    """Sizes by suffix."""
    cmyk_profile = models.CharField(max_length=16, default="", db_default="")
    started_at = models.DateTimeField(db_index=True)
    """When the most recent of its processes was started, by the database's clock."""

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return label_of(self.recipe)

    @classmethod
    def of(cls, recipe: Recipe, **columns: Any) -> Self:
        """Returns the unsaved row of a recipe."""
        return cls(
            digest=recipe.digest,
            size_px=recipe.size_px,
            quality=recipe.quality,
            background=list(recipe.background),
            renderer=recipe.renderer,
            variants={variant.suffix: variant.size_px for variant in recipe.variants},
            cmyk_profile=recipe.cmyk_profile,
            **columns,
        )

    @property
    def recipe(self) -> Recipe:
        red, green, blue = self.background
        return Recipe(
            size_px=self.size_px,
            quality=self.quality,
            background=(red, green, blue),
            renderer=self.renderer,
            variants=tuple(sorted(Variant(*entry) for entry in self.variants.items())),
            cmyk_profile=self.cmyk_profile,
        )


def label_of(recipe: Recipe) -> str:
    """For people: `256 px, quality 85, renderer 1`, and profile and variants if there are any."""
    parts = [f"{recipe.size_px} px", f"quality {recipe.quality}", f"renderer {recipe.renderer}"]
    if recipe.cmyk_profile:
        parts.append(f"CMYK by profile {recipe.cmyk_profile}")
    return ", ".join([*parts, *(f"{each.suffix} {each.size_px} px" for each in recipe.variants)])


class _Known:
    """This process's cache of the table."""

    def __init__(self) -> None:
        self.in_force: Recipe | None = None
        """None if no process has recorded one."""
        self.looked_at = float("-inf")
        self.announced = ""
        self.announce_at = float("-inf")


_known = _Known()


def recipe_in_force() -> Recipe:
    """Returns the recipe of the process started last, cached for LOOK_SECONDS.

    This process's own recipe if none is recorded, or the database is unavailable.
    """
    if time.monotonic() - _known.looked_at > LOOK_SECONDS:
        try:
            # A savepoint: a failed query must not break the caller's transaction.
            with transaction.atomic():
                look()
        except DatabaseError:
            _known.looked_at = time.monotonic()
    return _known.in_force or own_recipe()


def look() -> Recipe:
    """Returns the recipe in force, read from the database."""
    latest = KnownRecipe.objects.order_by("-started_at", "digest").first()
    _known.in_force = None if latest is None else latest.recipe
    _known.looked_at = time.monotonic()
    return _known.in_force or own_recipe()


def is_own_in_force() -> bool:
    """Whether this process may render, read from the database."""
    announce()
    return look().digest == own_recipe().digest


def announce() -> None:
    """Record, once per process, that it was started with this recipe. For processes that render.

    If the database is unavailable, a later call tries again.
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
                new = KnownRecipe.of(own, started_at=started_at)
                KnownRecipe.objects.bulk_create([new], ignore_conflicts=True)
            known.filter(started_at__lt=started_at).update(started_at=started_at)
            look()
    except DatabaseError as error:
        logger.warning("The recipe of this process cannot be recorded: %s", error)
    else:
        _known.announced = own.digest


def announce_with_first_request(**_: object) -> None:
    """As `announce`, for web processes: a receiver of `request_started`.

    In a thread: a hit needs no database and must not wait for it.
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
    """Returns the labels of all known recipes, by digest. One query."""
    own = own_recipe()
    known = {known.digest: str(known) for known in KnownRecipe.objects.all()}
    return {own.digest: label_of(own), UNSTAMPED: "made by another program", **known}


def known_suffixes() -> list[str]:
    """Returns the suffixes of the variants of all known recipes. One query."""
    recipes = [own_recipe(), *(known.recipe for known in KnownRecipe.objects.all())]
    return sorted({variant.suffix for recipe in recipes for variant in recipe.variants})


def _forget(**_: object) -> None:
    """After a change of settings, as in a new process."""
    global _known, _started_at  # noqa: PLW0603
    _known = _Known()
    _started_at = time.monotonic()


setting_changed.connect(_forget)

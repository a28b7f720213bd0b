"""Runs for tests, started as admin and commands start them."""

from __future__ import annotations

from django.contrib.auth.models import User

from thumbnails.models import ImageAsset, Run
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.upkeep.runs import starting


def start_run(
    assets: ImageAssetQuerySet | None = None,
    *,
    kind: Run.Kind = Run.Kind.REGENERATE,
    origin: Run.Origin = Run.Origin.ADMIN,
    force: bool = False,
    leased: bool = False,
    by: User | None = None,
    rate: float | None = None,
) -> Run:
    """Start a run over these images, all without any, as `starting.start` does."""
    return starting.start(
        kind,
        ImageAsset.objects.all() if assets is None else assets,
        origin=origin,
        scope_text="all images" if assets is None else "some images",
        force=force,
        leased=leased,
        by=by,
        rate=rate,
    )

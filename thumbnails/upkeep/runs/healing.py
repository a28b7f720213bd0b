"""Runs that workers begin by themselves over what is stale after a change of recipe."""

import logging
from contextlib import suppress

from thumbnails import conf
from thumbnails.exceptions import AlreadyUnderWay, NotDispatched
from thumbnails.models import ImageAsset, KnownRecipe, Run, State
from thumbnails.models.recipes import own_recipe
from thumbnails.upkeep.runs.starting import start_on_queue
from thumbnails.upkeep.selection.conditions import Selection

logger = logging.getLogger(__name__)


def heal() -> Run | None:
    """Begin a run over all that is stale, once since this process's recipe came into force.

    To be called by workers whose recipe is in force. Returns the new run; None if there is nothing
    to do, or THUMBNAIL_HEAL is off.
    """
    rate = conf.current().heal_per_second
    own = own_recipe().digest
    if rate is None or not _has_others(own) or _has_begun(own):
        return None
    stale = Selection(states=(State.STALE,))
    # Open chunks of a run that could not be handed to the queue are enqueued later.
    with suppress(AlreadyUnderWay, NotDispatched):
        run = start_on_queue(
            Run.Kind.REGENERATE,
            stale,
            origin=Run.Origin.WORKER,
            rate=rate,
            ignore_space=True,  # each replaces an older one
            note="Begun by the workers after a change of recipe (THUMBNAIL_HEAL).",
        )
        logger.info("%s over all that is stale", run)
        return run
    return None


def _has_others(own: str) -> bool:
    """Whether any thumbnail was made with another recipe."""
    return any(recipe != own for recipe in ImageAsset.objects.recipes())


def _has_begun(own: str) -> bool:
    runs = Run.objects.filter(origin=Run.Origin.WORKER, recipe=own)
    others = KnownRecipe.objects.exclude(digest=own).order_by("-started_at")
    before = others.values_list("started_at", flat=True).first()
    return runs.exists() if before is None else runs.filter(created_at__gt=before).exists()

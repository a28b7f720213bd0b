"""Assets and their thumbnails, runs over them, known recipes, cached counts, API tokens, purges."""

from thumbnails.models.assets import ImageAsset, Outcome, SessionImage, State, TrainingSession
from thumbnails.models.cdn import CdnPurge
from thumbnails.models.counts import Cache, CachedCount
from thumbnails.models.recipes import KnownRecipe, recipe_in_force
from thumbnails.models.runs import Chunk, Run, RunEvent, RunRequest, RunRoot
from thumbnails.models.tokens import ApiToken

__all__ = [
    "ApiToken",
    "Cache",
    "CachedCount",
    "CdnPurge",
    "Chunk",
    "ImageAsset",
    "KnownRecipe",
    "Outcome",
    "Run",
    "RunEvent",
    "RunRequest",
    "RunRoot",
    "SessionImage",
    "State",
    "TrainingSession",
    "recipe_in_force",
]

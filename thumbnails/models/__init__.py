"""The ledger: what the site knows of its images, their thumbnails, and the runs over them."""

from thumbnails.models.assets import (
    ImageAsset,
    Outcome,
    State,
    TrainingSession,
    recipe_in_force,
)
from thumbnails.models.runs import Chunk, Run, RunRequest
from thumbnails.models.tokens import ApiToken

__all__ = [
    "ApiToken",
    "Chunk",
    "ImageAsset",
    "Outcome",
    "Run",
    "RunRequest",
    "State",
    "TrainingSession",
    "recipe_in_force",
]

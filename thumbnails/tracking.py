"""Pictures of the project's own models as images: see docs/own-project.md."""

from thumbnails.upkeep.images.tracked_fields import asset_of, thumbnails_for
from thumbnails.upkeep.images.tracking import track

__all__ = ["asset_of", "thumbnails_for", "track"]

"""What is told of originals besides their size: who made them, and how they are stored.

Processes of the version before insert rows without these columns until they are restarted. The
indexes leave out what is not described yet, which is all at first.
"""

from typing import Any, ClassVar

from django.db import migrations, models
from django.db.models import Q

from thumbnails.migrations._operations import AddFieldInPlace


def text(name: str = "", *, max_length: int = 80) -> Any:
    return models.CharField(
        name or None, blank=True, db_default="", default="", editable=False, max_length=max_length
    )


FIELDS: dict[str, Any] = {
    "camera": text(),
    "software": text(),
    "bit_depth": models.PositiveSmallIntegerField("bits a channel", editable=False, null=True),
    "has_alpha": models.BooleanField("alpha", editable=False, null=True),
    "frames": models.PositiveIntegerField(editable=False, null=True),
    "color_profile": text("colour profile"),
    "compression": text(max_length=12),
    "note": text(max_length=12),
    "facts_version": models.PositiveSmallIntegerField(db_default=0, default=0, editable=False),
}
INDEXES = [
    models.Index(
        fields=["camera", "created_at", "id"], condition=~Q(camera=""), name="image_by_camera"
    ),
    models.Index(
        fields=["software", "created_at", "id"], condition=~Q(software=""), name="image_by_software"
    ),
    models.Index(
        fields=["color_profile", "created_at", "id"],
        condition=~Q(color_profile=""),
        name="image_by_profile",
    ),
    models.Index(
        fields=["compression", "created_at", "id"],
        condition=~Q(compression__in=["", "baseline"]),
        name="image_by_compression",
    ),
    models.Index(
        fields=["bit_depth", "created_at", "id"],
        condition=Q(bit_depth__lt=8) | Q(bit_depth__gt=8),
        name="image_by_depth",
    ),
    models.Index(fields=["created_at", "id"], condition=Q(has_alpha=True), name="image_with_alpha"),
    models.Index(fields=["created_at", "id"], condition=Q(frames__gt=1), name="image_with_frames"),
    models.Index(fields=["created_at", "id"], condition=~Q(note=""), name="image_with_note"),
]


class Migration(migrations.Migration):
    dependencies: ClassVar = [("thumbnails", "0012_cdn")]

    operations: ClassVar = [
        *(AddFieldInPlace("imageasset", name, field) for name, field in FIELDS.items()),
        *(migrations.AddIndex("imageasset", index) for index in INDEXES),
    ]

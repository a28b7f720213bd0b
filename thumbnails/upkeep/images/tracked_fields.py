"""Fields of other models whose files are images, and the images of given rows.

An image's original is named `{root}/{file}`, and the root is the field's own storage: nothing is
copied, and nothing is written there.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.core.files.storage import Storage
from django.db import models
from django.db.models.fields.files import FieldFile

from thumbnails.exceptions import UsageError
from thumbnails.models import ImageAsset
from thumbnails.storage import originals, tracked
from thumbnails.storage.roots import NAME, NAME_LENGTH

PREFETCHED = "_thumbnail_assets"
"""The attribute of a row with its images, by the names of their originals."""


@dataclass(frozen=True)
class TrackedField:
    """An ImageField of a model."""

    model: type[models.Model]
    name: str

    @property
    def label(self) -> str:
        return f"{self.model._meta.label}.{self.name}"

    @cached_property
    def root(self) -> str:
        """The root of its originals: `catalog-product-photo`."""
        root = self.label.lower().replace(".", "-")
        if NAME.fullmatch(root):
            return root
        digest = sha256(root.encode()).hexdigest()[:8]
        readable = re.sub(r"[^a-z0-9-]", "", root)[: NAME_LENGTH - len(digest) - 1]
        return f"{readable.lstrip('-')}-{digest}".lstrip("-")

    @property
    def storage(self) -> Storage:
        found: Storage = self._field.storage
        return found

    @property
    def _field(self) -> Any:
        return self.model._meta.get_field(self.name)

    def original(self, file: str) -> str:
        """Returns the name of the original that this file is."""
        return f"{self.root}/{file}"

    def file_of(self, row: models.Model) -> str:
        """Returns the name of the row's file, empty if it has none."""
        return file_name(self._field.value_from_object(row))

    def pk_of(self, row: models.Model) -> Any:
        """Returns the primary key of the row in the field's own table, which that of a model which
        inherits from it may be different from."""
        return getattr(row, self.model._meta.pk.attname)

    def files(self, using: str, **conditions: Any) -> Iterator[tuple[Any, str]]:
        """Yields the primary key and the file of each row that has one."""
        for pk, file in self.rows(using).filter(**conditions):
            if name := file_name(file):
                yield pk, name

    def rows(self, using: str) -> Any:
        """Returns the primary keys and files of all rows."""
        rows = self.model._base_manager.using(using)  # noqa: SLF001  other managers may hide rows
        return rows.values_list("pk", self.name)


def file_name(file: object) -> str:
    return str(getattr(file, "name", file) or "")


_fields: dict[tuple[type[models.Model], str], TrackedField] = {}
_faults: dict[str, str] = {}


def add(model: str, field: str) -> TrackedField | None:
    """Returns the field if it is not tracked yet. Keeps the fault of one that cannot be."""
    try:
        found = _resolved(model, field)
    except UsageError as error:
        _faults[f"{model}.{field}"] = str(error)
        return None
    if (found.model, found.name) in _fields:
        return None
    _fields[found.model, found.name] = found
    tracked.add_root(found.root, lambda: found.storage)
    return found


def remove(label: str) -> TrackedField | None:
    """Returns the field if it was tracked."""
    _faults.pop(label, None)
    for found in tracked_fields():
        if found.label == label:
            tracked.remove_root(found.root)
            return _fields.pop((found.model, found.name))
    return None


def tracked_fields() -> list[TrackedField]:
    """Returns the tracked fields in the order of their labels."""
    return sorted(_fields.values(), key=lambda found: found.label)


def faults() -> dict[str, str]:
    """Returns by label why a field cannot be tracked."""
    return dict(_faults)


def is_tracked(asset: ImageAsset) -> bool:
    """Whether the image's original is a file of a tracked field."""
    return originals.root_of(str(asset.original.name)) in tracked.roots()


def _resolved(label: str, name: str) -> TrackedField:
    """Raises UsageError, which says what to track instead."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise UsageError(f"There is no model {label}.") from None
    if model._meta.swapped:
        raise UsageError(f"{label} is swapped for {model._meta.swapped}: track that one.")
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        raise UsageError(f"{label} has no field {name}.") from None
    if not isinstance(field, models.ImageField):
        raise UsageError(f"{label}.{name} is not an ImageField.")
    if field.model is not model:
        raise UsageError(f"{label} has its field from {field.model._meta.label}: track that one.")
    return TrackedField(model, name)


# --- images for pages -----------------------------------------------------------------------------


def thumbnails_for(rows: Iterable[models.Model], field: str) -> dict[Any, ImageAsset]:
    """Returns the images of these rows' files by the rows' primary keys. Takes one query.

    The rows know them afterwards, so that `asset_of` takes none. A QuerySet is evaluated. Raises
    UsageError if the field is not tracked.
    """
    found = list(rows)
    names = {}
    for row in found:
        of_field = _tracked_by(row._meta.get_field(field))
        if file := of_field.file_of(row):
            names[id(row)] = of_field.original(file)
    assets = assets_of(set(names.values()))
    images = {}
    for row in found:
        if (name := names.get(id(row))) is not None:
            asset = assets.get(name)
            _remember(row, name, asset)
            if asset is not None:
                images[row.pk] = asset
    return images


def asset_of(file: FieldFile) -> ImageAsset | None:
    """Returns the image of this file: `asset_of(product.photo)`.

    None if there is no file, or no image of it yet. Takes one query, and none where
    `thumbnails_for` knew the row. Raises UsageError if the field is not tracked.
    """
    of_field = _tracked_by(file.field)
    if not file.name:
        return None
    name = of_field.original(file.name)
    known: dict[str, ImageAsset | None] = vars(file.instance).get(PREFETCHED, {})
    if name not in known:
        _remember(file.instance, name, assets_of({name}).get(name))
        known = vars(file.instance)[PREFETCHED]
    return known[name]


def _tracked_by(field: Any) -> TrackedField:
    try:
        return _fields[field.model, field.name]
    except (KeyError, AttributeError):
        raise UsageError(f"{field} is not tracked: see thumbnails.tracking.track.") from None


def assets_of(names: set[str]) -> dict[str, ImageAsset]:
    """Returns the images of these originals, by their names."""
    if not names:
        return {}
    return {str(a.original.name): a for a in ImageAsset.objects.filter(original__in=names)}


def _remember(row: models.Model, name: str, asset: ImageAsset | None) -> None:
    vars(row).setdefault(PREFETCHED, {})[name] = asset

"""Thumbnails as HTML, for Django's templates and Jinja2. Takes no query and no access to the cache.

In place of an asset there may be the file of a tracked field, whose asset takes a query where
`thumbnails_for` has not found it before, or nothing: None, an empty text, an undefined variable, an
asset that was deleted, no file. The result is empty then.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from html import escape

from django.db.models.fields.files import FieldFile
from django.utils.safestring import SafeString

from thumbnails.models import ImageAsset
from thumbnails.models.sources import Sources
from thumbnails.upkeep.images import tracked_fields

NOTHING = SafeString()

_NO_NAME = re.compile(r"[\s\"'<>/=\x00-\x1f\x7f]")
"""What HTML does not allow in an attribute's name."""


def thumbnail(asset: object, *, size: str = "", **attributes: object) -> SafeString:
    """Returns an `<img>` with the JPEG in all its densities.

    `size` is the name of a size of THUMBNAIL_VARIANTS; the thumbnail is shown if it was made
    without. With the attribute `sizes` the browser chooses by width among the files of all sizes.

    Attributes are added, and replace those of the tag: `data_id=7` is `data-id="7"`, True has no
    value, None and False leave an attribute out. Raises ValueError for what is not an attribute's
    name, and TypeError for what is not an asset.
    """
    found = asset_of(asset)
    if found is None:
        return NOTHING
    return SafeString(_img(found, _sources(found, size, attributes), attributes))


def picture(asset: object, *, size: str = "", **attributes: object) -> SafeString:
    """Returns a `<picture>` with a `<source>` for each other format, the smallest files first, and
    the `<img>` of `thumbnail`, which has the attributes. Raises as `thumbnail`."""
    found = asset_of(asset)
    if found is None:
        return NOTHING
    sources = _sources(found, size, attributes)
    sizes = {"sizes": attributes.get("sizes")}
    others = "".join(f"<source{_attributes({**source, **sizes})}>" for source in sources["sources"])
    return SafeString(f"<picture>{others}{_img(found, sources, attributes)}</picture>")


def thumbnail_url(asset: object, suffix: str = "") -> str:
    """Returns the public URL of the thumbnail, or of its variant with that suffix (`@2x.webp`); of
    the thumbnail if it was made without. Raises TypeError for what is not an asset."""
    found = asset_of(asset)
    return "" if found is None else found.variant_url(suffix)


def asset_of(value: object) -> ImageAsset | None:
    """Returns the asset that a template was given, itself or as a file of a tracked field; None if
    there is none.

    Raises TypeError for what is neither, and UsageError for a file of a field that is not tracked.
    """
    if isinstance(value, ImageAsset):
        return value if value.pk else None
    if isinstance(value, FieldFile):
        return tracked_fields.asset_of(value)
    if not value or isinstance(value, str):  # a template's text for an undefined variable
        return None
    raise TypeError(f"A thumbnail is shown of an ImageAsset, not of {type(value).__name__}.")


def _sources(asset: ImageAsset, size: str, attributes: Mapping[str, object]) -> Sources:
    return asset.thumbnail_sources(size, by_width=attributes.get("sizes") is not None)


def _img(asset: ImageAsset, sources: Sources, attributes: Mapping[str, object]) -> str:
    own = {
        "src": sources["src"],
        "srcset": sources["srcset"] or None,
        "width": sources["width"],
        "height": sources["height"],
        "loading": "lazy",
        "decoding": "async",
    }
    if sources["placeholder"]:
        # The thumbnail covers it when it is there: a JPEG is opaque.
        own["style"] = f"background:url({sources['placeholder']}) center/cover"
    if "alt" not in attributes:
        own["alt"] = asset.title
    return f"<img{_attributes({**own, **attributes})}>"


def _attributes(values: Mapping[str, object]) -> str:
    """The attributes, each after a blank."""
    found = ""
    for name, value in values.items():
        if value is None or value is False:
            continue
        found += f" {_name(name)}" if value is True else f' {_name(name)}="{_escaped(value)}"'
    return found


@lru_cache(maxsize=256)
def _name(argument: str) -> str:
    """An attribute's name, of an argument's, which has no hyphens."""
    if not argument or _NO_NAME.search(argument):
        raise ValueError(f"{argument!r} is not the name of an attribute.")
    return argument.replace("_", "-")


def _escaped(value: object) -> str:
    """As Django escapes, and also the quotes of what is marked as safe, such as a template's
    literals: they would end the attribute."""
    if hasattr(value, "__html__"):
        return str(value.__html__()).replace('"', "&quot;")
    return escape(str(value))

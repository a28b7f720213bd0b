"""Bytes of an original in, bytes of a thumbnail out. Uses Pillow, not Django.

Only render processes (`thumbnails.rendering.process`) inspect, decode and compare pictures; what
this package exports is for all others.
"""

from thumbnails.rendering.compare import Difference
from thumbnails.rendering.facts import (
    FACT_LENGTH,
    FACTS_VERSION,
    NO_TEXT,
    Compression,
    Facts,
    Note,
    clean_text,
)
from thumbnails.rendering.formats import DEFAULT_FORMATS, FORMATS, endings_of, formats_named, listed
from thumbnails.rendering.icc import fault_of_cmyk_profile
from thumbnails.rendering.recipe import (
    MEDIA_TYPES,
    SUFFIX,
    THUMBNAIL,
    Recipe,
    Variant,
    fingerprint_of,
    fit_inside,
    profile_digest,
)
from thumbnails.rendering.render import Rendering
from thumbnails.rendering.spool import Spool
from thumbnails.rendering.stamp import Stamped, is_whole, look_at, read_size, read_stamp
from thumbnails.rendering.thumbhash import placeholder_url

__all__ = [
    "DEFAULT_FORMATS",
    "FACTS_VERSION",
    "FACT_LENGTH",
    "FORMATS",
    "MEDIA_TYPES",
    "NO_TEXT",
    "SUFFIX",
    "THUMBNAIL",
    "Compression",
    "Difference",
    "Facts",
    "Note",
    "Recipe",
    "Rendering",
    "Spool",
    "Stamped",
    "Variant",
    "clean_text",
    "endings_of",
    "fault_of_cmyk_profile",
    "fingerprint_of",
    "fit_inside",
    "formats_named",
    "is_whole",
    "listed",
    "look_at",
    "placeholder_url",
    "profile_digest",
    "read_size",
    "read_stamp",
]

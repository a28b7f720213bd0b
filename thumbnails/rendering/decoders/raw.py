"""RAW photos, by LibRaw (rawpy): the JPEG that the camera has put in as a preview, the largest if
there are several."""

from io import BytesIO
from typing import BinaryIO, cast

import rawpy
from PIL import ExifTags, Image

from thumbnails.exceptions import Unsupported
from thumbnails.rendering.inspection import (
    TURNED,
    UPRIGHT,
    WatchedFile,
    check_scans,
    orientation_of,
)

ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF's, by LibRaw's `flip`."""
NO_PREVIEW = "This RAW photo has no JPEG as its preview."


def open_image(file: BinaryIO, size_px: int | None = None) -> Image.Image:
    file.seek(0)
    with rawpy.imread(file) as raw:
        try:
            preview = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            raise Unsupported(NO_PREVIEW) from None
        # rawpy reads plain pixels as many as their size says, beyond their end if it is wrong.
        if preview.format != rawpy.ThumbFormat.JPEG:
            raise Unsupported(NO_PREVIEW)
        orientation = ORIENTATIONS.get(raw.sizes.flip, UPRIGHT)
        is_wide = raw.sizes.raw_width >= raw.sizes.raw_height
    content = WatchedFile(BytesIO(bytes(preview.data)))
    with content.header():
        image = Image.open(cast(BinaryIO, content), formats=["JPEG"])
    check_scans(image, content)
    # The camera says in the RAW photo how it was held, and in some previews too. Others are stored
    # upright.
    stored = orientation_of(image, image.getexif)
    is_turned = orientation in TURNED and (image.width >= image.height) != is_wide
    image.getexif()[ExifTags.Base.Orientation] = (
        stored if orientation == UPRIGHT else UPRIGHT if is_turned else orientation
    )
    image.format = "RAW"
    return image

"""Makes an HEIC of a picture: `python -m benchmarks.others.heic SOURCE TARGET`.

The site's own library only decodes.
"""

import sys

from PIL import Image
from pillow_heif import register_heif_opener

QUALITY = 60
"""At which a photo of 12 megapixels takes 2 MB, as a phone's does."""

if __name__ == "__main__":
    register_heif_opener()
    source, target = sys.argv[1:]
    with Image.open(source) as image:
        image.save(target, "HEIF", quality=QUALITY, enc_params={"preset": "superfast"})

"""PDF documents, by PDFium (pypdfium2): the first page on white, at the size that is needed.

PDFium runs no scripts: the package's build has no JavaScript engine. Forms are not filled in.
"""

from typing import BinaryIO

import pypdfium2
from PIL import Image

from thumbnails.exceptions import Unsupported
from thumbnails.rendering.decoders.deferred import DeferredImage
from thumbnails.rendering.decoders.drawings import drawn_size


def open_image(file: BinaryIO, size_px: int | None = None) -> Image.Image:
    return PdfImage(file, size_px)


class PdfImage(DeferredImage):
    format = "PDF"

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101  for the type checker
        try:
            self._document = pypdfium2.PdfDocument(self.fp.read())
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise Unsupported("This PDF document needs a password.") from None
            raise
        # The page is not loaded, which parses all of what is on it.
        width, height = self._document.get_page_size(0)
        self._size = drawn_size(width, height, self.size_px)
        self._mode = "RGB"

    def decoded(self) -> Image.Image:
        page = self._document[0]
        scale = max(self.size) / max(page.get_size())
        bitmap = page.render(scale=scale, may_draw_forms=False)
        image: Image.Image = bitmap.to_pil()
        # PDFium rounds a side up.
        return image.convert("RGB").crop((0, 0, *self.size))

"""An image that is decoded by another library than Pillow."""

from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageFile

from thumbnails.rendering.inspection import UPRIGHT


class DeferredImage(ImageFile.ImageFile):
    """As Pillow's own: its size is known on opening, and `load` decodes the pixels.

    A subclass names its `format`, sets `_size` and `_mode` in `_open`, and decodes in `decoded`.
    """

    def __init__(self, file: BinaryIO, size_px: int | None = None) -> None:
        self.size_px = size_px
        super().__init__(file)

    def decoded(self) -> Image.Image:
        raise NotImplementedError

    def load(self) -> Any:
        if self._im is None:
            image = self.decoded()
            image.load()
            self.im, self._mode, self._size = image.im, image.mode, image.size
            self.set_orientation(UPRIGHT)
            self.fp = None
        return super().load()

    def set_orientation(self, orientation: int) -> None:
        """Set what EXIF says of it: how the stored pixels were turned to be those that `load`
        decodes, and once it has that they are upright."""
        try:
            exif = self.getexif()
        except Exception:  # noqa: BLE001  damaged EXIF may raise anything, and the pixels are fine
            self._exif = exif = Image.Exif()
            self.info.pop("exif", None)
        exif[ExifTags.Base.Orientation] = orientation

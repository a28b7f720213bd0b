"""A paginator for the list of images that reads from indexes, whatever their number."""

from typing import TYPE_CHECKING, Any

from django.core.paginator import Page, Paginator
from django.utils.functional import cached_property

from thumbnails.models import ImageAsset
from thumbnails.upkeep.reports import counts
from thumbnails.upkeep.selection import pages
from thumbnails.upkeep.selection.conditions import Selection

if TYPE_CHECKING:  # Django's own classes take no type parameters at run time
    ImagePaginator = Paginator[ImageAsset]
    ImagePage = Page[ImageAsset]
else:
    ImagePaginator = Paginator
    ImagePage = Page


class SelectionPaginator(ImagePaginator):
    """Pages of the images that match a selection, the newest first."""

    def __init__(self, selection: Selection, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.selection = selection

    @cached_property
    def _first_ids(self) -> list[int]:
        return pages.ids_between(self.selection, 0, self.per_page + 1)

    @cached_property
    def count(self) -> int:
        # Counting few images among many takes as long as finding them.
        if len(self._first_ids) <= self.per_page:
            return len(self._first_ids)
        known = counts.number_of(self.selection)
        return pages.count(self.selection) if known is None else known

    def page(self, number: int | str) -> ImagePage:
        number = self.validate_number(number)
        begin = (number - 1) * self.per_page
        ids = (
            self._first_ids[: self.per_page]
            if begin == 0
            else pages.ids_between(self.selection, begin, begin + self.per_page)
        )
        found = ImageAsset.objects.with_sessions().in_bulk(ids)
        images = [found[asset_id] for asset_id in ids if asset_id in found]
        return ImagePage(images, number, self)

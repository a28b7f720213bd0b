"""What a page needs to show a thumbnail with its variants, as a plain value."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from thumbnails.rendering import MEDIA_TYPES, Variant, placeholder_url

EXTENSIONS = tuple(MEDIA_TYPES)
"""That which every browser shows first."""


class Source(TypedDict):
    """A `<source>` of a `<picture>`."""

    type: str
    srcset: str


class Sources(TypedDict):
    """The attributes of an `<img>`, and the sources of a `<picture>` around it."""

    src: str
    width: int | None
    """Of `src` in pixels, as `height`; None while the original's size is unknown."""
    height: int | None
    srcset: str
    """Empty if there is one density."""
    sources: list[Source]
    """Of other formats than that of `src`; those of smaller files first."""
    placeholder: str
    """The `data:` URL of a tiny picture to be shown while it loads; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Output:
    """A thumbnail or variant that is there, or is to be made."""

    variant: Variant
    width: int | None
    height: int | None

    @property
    def longer_px(self) -> int:
        """The longer side; while that is unknown, as long as it can be."""
        return max(self.width or 0, self.height or 0) or self.variant.size_px


def sources_of(
    outputs: Iterable[Output],
    name: str,
    *,
    url: str,
    thumb_hash: str = "",
    by_width: bool = False,
) -> Sources:
    """Returns the sources of the size with this name, of the thumbnail if there is none.

    `url` is the thumbnail's, whose path ends with `.jpg`. By width, a `srcset` has the files of all
    sizes with their widths, of which a browser chooses by the page's `sizes`, and otherwise those
    of one size with their densities.
    """
    path, _, query = url.partition("?")
    stem = path.removesuffix(".jpg")
    found = sorted(outputs, key=lambda output: (output.longer_px, output.variant.suffix))
    if not any(output.variant.name == name for output in found):
        name = ""
    by_extension: dict[str, list[Output]] = {extension: [] for extension in MEDIA_TYPES}
    for output in found:
        if output.width if by_width else output.variant.name == name:
            by_extension[output.variant.extension].append(output)
    first = min(
        (output for output in found if output.variant.name == name),
        key=lambda output: EXTENSIONS.index(output.variant.extension),
    )

    def srcset(some: list[Output]) -> str:
        urls: dict[str, str] = {}
        for output in some:
            descriptor = f"{output.width}w" if by_width else _density(output, first)
            urls.setdefault(descriptor, f"{stem}{output.variant.suffix}?{query}")
        return ", ".join(f"{url} {descriptor}" for descriptor, url in urls.items())

    own = srcset(by_extension.pop(first.variant.extension))
    return {
        "src": f"{stem}{first.variant.suffix}?{query}",
        "width": first.width,
        "height": first.height,
        "srcset": own if ", " in own else "",
        "sources": [
            {"type": MEDIA_TYPES[key], "srcset": srcset(some)}
            for key, some in reversed(by_extension.items())
            if some
        ],
        "placeholder": placeholder_url(thumb_hash) if thumb_hash else "",
    }


def _density(output: Output, first: Output) -> str:
    """Of what there really is: a small original is not enlarged."""
    return f"{output.longer_px / first.longer_px:.2f}".rstrip("0").rstrip(".") + "x"

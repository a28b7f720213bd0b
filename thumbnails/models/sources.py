"""What a page needs to show a thumbnail with its variants, as a plain value."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from thumbnails.rendering import MEDIA_TYPES, Variant


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
    """The address of a picture to be shown while it loads; empty if there is none."""


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


def sources_of(outputs: Iterable[Output], name: str, *, url: str) -> Sources:
    """Returns the sources of the size with this name, of the thumbnail if there is none.

    `url` is the thumbnail's, whose path ends with `.jpg`.
    """
    path, _, query = url.partition("?")
    stem = path.removesuffix(".jpg")
    found = sorted(outputs, key=lambda output: (output.longer_px, output.variant.suffix))
    if not any(output.variant.name == name for output in found):
        name = ""
    by_extension: dict[str, list[Output]] = {extension: [] for extension in MEDIA_TYPES}
    for output in found:
        if output.variant.name == name:
            by_extension[output.variant.extension].append(output)
    extension = next(key for key, some in by_extension.items() if some)
    first = by_extension[extension][0]

    def srcset(some: list[Output]) -> str:
        urls: dict[str, str] = {}
        for output in some:
            # Of what there really is: a small original is not enlarged.
            density = f"{output.longer_px / first.longer_px:.2f}".rstrip("0").rstrip(".")
            urls.setdefault(density, f"{stem}{output.variant.suffix}?{query}")
        return ", ".join(f"{url} {density}x" for density, url in urls.items())

    own = srcset(by_extension.pop(extension))
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
        "placeholder": "",
    }

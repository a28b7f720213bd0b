"""The app's settings as one typed, validated value, read on first use and not at import."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import global_settings, settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

from thumbnails.rendering import (
    DEFAULT_FORMATS,
    SUFFIX,
    Variant,
    fault_of_cmyk_profile,
    formats_named,
)

DICT, PREFIX = "THUMBNAILS", "THUMBNAIL_"
"""A setting is a key of the dict or, in a project without the dict, one with the prefix."""

OTHER_PACKAGES = {"sorl.thumbnail": "sorl-thumbnail", "easy_thumbnails": "easy-thumbnails"}
"""By their apps: packages whose settings have the same prefix."""

OFF = "off"
ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?")
ADDRESS = re.compile(rf"{ORIGIN.pattern}/[!-~]*")
TOKEN = re.compile("[!-~]([ -~]*[!-~])?")

SECRETS = {"CDN_TOKEN"}
"""No message contains them."""

RENDER_MEMORY_AT_LEAST = 256 * 2**20
"""Python and Pillow with all their libraries take half of that before they open an image."""

SIZE_AT_MOST = 4096
VARIANTS_AT_MOST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailSettings:
    """Each field is read from the Django setting that its docstring names."""

    size_px: int
    """THUMBNAIL_SIZE: the side of the square that a thumbnail fits in."""
    quality: int
    """THUMBNAIL_QUALITY: of the JPEG, 1 to 95 (Pillow's useful range)."""
    variants: tuple[Variant, ...]
    """THUMBNAIL_VARIANTS: further densities, formats and sizes, in order of their suffixes."""
    formats: tuple[str, ...]
    """THUMBNAIL_FORMATS: names of the originals' formats that are taken."""
    show_truncated: bool
    """THUMBNAIL_SHOW_TRUNCATED: of a JPEG or PNG that breaks off what is there is shown."""
    cmyk_profile: bytes = field(repr=False)
    """THUMBNAIL_CMYK_PROFILE: the ICC profile of CMYK that has none of its own; empty: none."""
    placeholders: bool
    """THUMBNAIL_PLACEHOLDERS: a ThumbHash is made with each thumbnail."""
    max_pixels: int
    """THUMBNAIL_MAX_PIXELS: an original with more is refused before it is decoded."""
    max_bytes: int
    """THUMBNAIL_MAX_BYTES: an original of a larger file is refused before it is read."""
    render_seconds: int
    """THUMBNAIL_RENDER_SECONDS: time limit for reading an original, and for decoding it."""
    render_memory_bytes: int
    """THUMBNAIL_RENDER_MEMORY: address space of a process that decodes."""
    web_renders: int
    """THUMBNAIL_WEB_RENDERS: images that one web process decodes at once."""
    web_waiting: int
    """THUMBNAIL_WEB_WAITING: requests that may wait for one of these, per web process."""
    renders_per_minute: int
    """THUMBNAIL_RENDERS_PER_MINUTE: synchronous renders over the API, per user."""
    dir_group_writable: bool
    """THUMBNAIL_DIR_GROUP_WRITABLE: the cache's folder is shared by the users of its group."""
    heal_per_second: float | None
    """THUMBNAIL_HEAL: images a second that workers refresh by themselves after a change of recipe,
    such as "20/s"; None: they do not."""
    cdn: tuple[str, ...]
    """THUMBNAIL_CDN: origins, such as https://img.example.org, whose copies are purged."""
    cdn_api: str
    """THUMBNAIL_CDN_API: the address that is told what to purge; empty for PURGE requests."""
    cdn_token: str = field(repr=False)
    """THUMBNAIL_CDN_TOKEN: a secret, or a whole header with it."""
    eager: bool
    """THUMBNAIL_EAGER: workers render what is imported, uploaded or tracked at once."""
    site_url: str
    """THUMBNAIL_SITE_URL: the site's own origin, such as https://images.example.org, for addresses
    in mails and reports; empty for paths alone."""
    track: tuple[str, ...]
    """THUMBNAIL_TRACK: fields of other models whose files are images: `catalog.Product.photo`."""


def per_second(text: str) -> float:
    """Returns '50/s', '2.5/s' or '100/m' as a number a second. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)/([smh])", text)
    rate = float(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < rate <= 1_000_000:
        raise ValueError(f"{text!r} is not a rate like 50/s, 100/m or 1000/h")
    return rate


FOREIGN = (
    "It may be meant for another package, such as sorl-thumbnail or easy-thumbnails. Put this "
    f'app\'s own settings into {DICT} = {{…}}, with keys such as "SIZE" for {PREFIX}SIZE: then no '
    "others are read."
)


class _Reader:
    """Reads the settings, and keeps what is wrong with them."""

    def __init__(self) -> None:
        values: Any = getattr(settings, DICT, None)
        self.has_dict = values is not None
        self.faults: list[str] = []
        self.names: set[str] = set()
        """What was read."""
        self._is_foreign = False
        if self.has_dict and not isinstance(values, Mapping):
            self.faults.append(f"{DICT} must be a dict, not {values!r}.")
            values = {}
        self._values: Mapping[Any, Any] = values or {}

    def whole_number(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self._value(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        self._refuse(name, value, int, f"a whole number from {lowest:,} to {highest:,}")
        return default

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._value(name, default)
        if isinstance(value, bool):
            return value
        self._refuse(name, value, bool, "True or False")
        return default

    def rate(self, name: str) -> float | None:
        value = self._value(name, OFF)
        if value == OFF:
            return None
        try:
            return per_second(str(value))
        except ValueError:
            self._refuse(name, value, str, f'"{OFF}" or a rate like "20/s", "100/m" or "1000/h"')
            return None

    def variants(self, name: str) -> tuple[Variant, ...]:
        value = self._value(name, "")
        if isinstance(value, Mapping):
            entries = list(value.items())
        elif isinstance(value, str):
            entries = [_suffix_and_size(part) for part in value.split(",") if part.strip()]
        else:
            meant = 'a text such as "@2x.jpg=512, .webp=256", or a dict of sizes by suffix'
            self._refuse(name, value, str, meant)
            return ()
        faults = list(_faults_of_variants(entries))
        self.faults += [f"{self._spelled(name)}: {fault}" for fault in faults]
        return () if faults else tuple(sorted(Variant(*entry) for entry in entries))

    def formats(self, name: str) -> tuple[str, ...]:
        value = self._value(name, "default")
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            self._refuse(name, value, str, 'a text such as "default,PSD", or a list of names')
            return DEFAULT_FORMATS
        try:
            return formats_named(names)
        except ValueError as error:
            self.faults.append(f"{self._spelled(name)}: {error}.")
            return DEFAULT_FORMATS

    def cmyk_profile(self, name: str) -> bytes:
        """Returns the bytes of the file whose path is given; none where there is no path."""
        value = self._value(name, "")
        if value == "":
            return b""
        if not isinstance(value, str | Path) or not Path(value).is_absolute():
            self._refuse(name, value, str, "the absolute path of an ICC profile of CMYK")
            return b""
        try:
            content = Path(value).read_bytes()
        except OSError as error:
            self.faults.append(f"{self._spelled(name)}: {value} cannot be read: {error.strerror}.")
            return b""
        if fault := fault_of_cmyk_profile(content):
            self.faults.append(f"{self._spelled(name)}: {value} {fault}.")
        return content

    def text(self, name: str, pattern: re.Pattern[str], meant: str) -> str:
        """Returns an empty text where there is none."""
        value = self._value(name, "")
        if isinstance(value, str) and (not value or pattern.fullmatch(value)):
            return value
        self._refuse(name, value, str, meant)
        return ""

    def origins(self, name: str) -> tuple[str, ...]:
        value = self._value(name, "")
        if isinstance(value, str):
            found = tuple(part.strip() for part in value.split(",") if part.strip())
            if all(map(ORIGIN.fullmatch, found)):
                return found
        meant = "like https://img.example.org, without a path, or several with commas between them"
        self._refuse(name, value, str, meant)
        return ()

    def require(self, name: str, *, because_of: str) -> None:
        if self._value(because_of, "") and not self._value(name, ""):
            needed, given = self._spelled(name), self._spelled(because_of)
            self.faults.append(f"{needed} must be set where {given} is.")

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value(name, ())
        if isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
            return tuple(value)
        self._refuse(name, value, list, "a list of texts")
        return ()

    def check(self) -> None:
        """Raises ImproperlyConfigured for all faults, and for keys that were not read."""
        known = ", ".join(sorted(self.names))
        unknown = [key for key in self._values if key not in self.names]
        faults = [
            *self.faults,
            *(f"{DICT}[{_quoted(key)}] is unknown; the keys are {known}." for key in unknown),
        ]
        if self._is_foreign:
            faults.append(FOREIGN)
        if faults:
            raise ImproperlyConfigured(" ".join(faults))

    def _value(self, name: str, default: Any) -> Any:
        self.names.add(name)
        if self.has_dict:
            return self._values.get(name, default)
        return getattr(settings, f"{PREFIX}{name}", default)

    def _refuse(self, name: str, value: object, expected: type, meant: str) -> None:
        was = "" if name in SECRETS else f", not {value!r}"
        self.faults.append(f"{self._spelled(name)} must be {meant}{was}.")
        if not self.has_dict:
            self._is_foreign |= not isinstance(value, expected) or bool(other_packages())

    def _spelled(self, name: str) -> str:
        return f'{DICT}["{name}"]' if self.has_dict else f"{PREFIX}{name}"


def _suffix_and_size(text: str) -> tuple[str, int | str]:
    """Of one entry, such as `@2x.jpg=512`; the size as text if it is not a whole number."""
    suffix, _, size = text.partition("=")
    size = size.strip()
    return suffix.strip(), int(size) if re.fullmatch("[0-9]{1,9}", size) else size


def _faults_of_variants(entries: Iterable[tuple[object, object]]) -> Iterable[str]:
    times = Counter(suffix for suffix, _ in entries)
    for suffix, number in times.items():
        if fault := _fault_of_suffix(suffix):
            yield f"{suffix!r} {fault}."
        if number > 1:
            yield f"{suffix!r} is given {number} times."
    for suffix, size in entries:
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= SIZE_AT_MOST:
            meant = f"a whole number from 1 to {SIZE_AT_MOST:,}"
            yield f"The size of {suffix!r} must be {meant}, not {size!r}."
    if len(times) > VARIANTS_AT_MOST:
        yield f"{len(times)} variants are more than {VARIANTS_AT_MOST}."


def _fault_of_suffix(suffix: object) -> str:
    if not isinstance(suffix, str) or not re.fullmatch(SUFFIX, suffix):
        return (
            "is not a suffix like '.webp', '@2x.jpg', '-large.jpg' or '-large@2x.webp': a name of "
            "up to 20 lowercase letters and digits, a density from 2 to 9, and .jpg, .webp or .avif"
        )
    if suffix == ".jpg":
        return "is the thumbnail itself, whose size is another setting"
    if suffix.endswith(".avif"):
        from PIL import features  # noqa: PLC0415  other processes than those that decode need no Pillow

        if not features.check("avif"):
            return "cannot be written: Pillow was built without AVIF"
    return ""


def _quoted(key: object) -> str:
    return f'"{key}"' if isinstance(key, str) else repr(key)


def _settings_of(read: _Reader) -> ThumbnailSettings:
    return ThumbnailSettings(
        size_px=read.whole_number("SIZE", 256, 1, SIZE_AT_MOST),
        quality=read.whole_number("QUALITY", 85, 1, 95),
        variants=read.variants("VARIANTS"),
        formats=read.formats("FORMATS"),
        show_truncated=read.flag("SHOW_TRUNCATED", default=False),
        cmyk_profile=read.cmyk_profile("CMYK_PROFILE"),
        placeholders=read.flag("PLACEHOLDERS", default=False),
        max_pixels=read.whole_number("MAX_PIXELS", 200_000_000, 1, 10**10),
        max_bytes=read.whole_number("MAX_BYTES", 200 * 2**20, 1, 2**40),
        render_seconds=read.whole_number("RENDER_SECONDS", 30, 1, 3600),
        render_memory_bytes=read.whole_number(
            "RENDER_MEMORY", 2**30, RENDER_MEMORY_AT_LEAST, 2**40
        ),
        web_renders=read.whole_number("WEB_RENDERS", 1, 1, 64),
        web_waiting=read.whole_number("WEB_WAITING", 5, 0, 1000),
        renders_per_minute=read.whole_number("RENDERS_PER_MINUTE", 600, 1, 1_000_000),
        dir_group_writable=read.flag("DIR_GROUP_WRITABLE", default=False),
        heal_per_second=read.rate("HEAL"),
        cdn=read.origins("CDN"),
        cdn_api=read.text("CDN_API", ADDRESS, "an address like https://api.example.com/purge"),
        cdn_token=read.text("CDN_TOKEN", TOKEN, "one line of ASCII characters"),
        eager=read.flag("EAGER", default=False),
        site_url=read.text("SITE_URL", ORIGIN, "an origin like https://images.example.org"),
        track=read.texts("TRACK"),
    )


@lru_cache(maxsize=1)
def current() -> ThumbnailSettings:
    """Returns the current settings.

    Raises ImproperlyConfigured, which names every setting that is wrong.
    """
    read = _Reader()
    found = _settings_of(read)
    read.require("CDN", because_of="CDN_API")
    read.check()
    return found


def sends_mail() -> bool:
    """Whether the project has set up mail: not Django's default of a server on this machine."""
    return (settings.EMAIL_BACKEND, settings.EMAIL_HOST) != (
        global_settings.EMAIL_BACKEND,
        global_settings.EMAIL_HOST,
    )


def has_dict() -> bool:
    """Whether the settings are in the dict THUMBNAILS, so that others are not read."""
    return _Reader().has_dict


def prefixed_names() -> list[str]:
    """Returns the names with the prefix that the project sets: `["THUMBNAIL_SIZE"]`."""
    read = _Reader()
    _settings_of(read)
    return [
        f"{PREFIX}{name}" for name in sorted(read.names) if hasattr(settings, f"{PREFIX}{name}")
    ]


def other_packages() -> list[str]:
    """Returns the names of installed packages whose settings begin with THUMBNAIL_, too."""
    return [name for app, name in OTHER_PACKAGES.items() if apps.is_installed(app)]


@receiver(setting_changed)
def _forget(**_: object) -> None:
    current.cache_clear()

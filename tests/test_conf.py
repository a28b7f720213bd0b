"""The app's settings: in a dict, or under names with a prefix."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from tests import profiles
from thumbnails import conf


def other_app(name: str) -> AppConfig:
    """The app of another package."""
    module = ModuleType(name)
    module.__path__ = ["/"]
    return AppConfig(name, module)


def test_settings__are_read_from_the_dict_alone_if_there_is_one(settings: Settings) -> None:
    settings.THUMBNAIL_SIZE, settings.THUMBNAIL_QUALITY = (200, 200), 70  # another package's
    settings.THUMBNAILS = {"SIZE": 300, "DIR_GROUP_WRITABLE": True}
    read = conf.current()
    assert (read.size_px, read.quality, read.dir_group_writable) == (300, 85, True)


@pytest.mark.parametrize(
    "value",
    [
        " @2x.jpg=512,.webp = 256 ,-large@2x.avif=2048,",
        {"@2x.jpg": 512, ".webp": 256, "-large@2x.avif": 2048},
    ],
)
def test_variants__are_in_order_of_their_suffixes(settings: Settings, value: object) -> None:
    settings.THUMBNAILS = {"VARIANTS": value}
    found = conf.current().variants
    expected = [("-large@2x.avif", 2048), (".webp", 256), ("@2x.jpg", 512)]
    assert [(each.suffix, each.size_px) for each in found] == expected
    assert [(each.name, each.extension) for each in found] == [
        ("large", "avif"),
        ("", "webp"),
        ("", "jpg"),
    ]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"SIZE": (200, 200)},
            r'^THUMBNAILS\["SIZE"\] must be .* from 1 to 4,096, not \(200, 200\)',
        ),
        (
            {"QUALITY": 96},
            r'^THUMBNAILS\["QUALITY"\] must be a whole number from 1 to 95, not 96\.$',
        ),
        ({"DIR_GROUP_WRITABLE": 1}, r'^THUMBNAILS\["DIR_GROUP_WRITABLE"\] must be True or False'),
        (
            {"CMYK_PROFILE": "press.icc"},
            r'^THUMBNAILS\["CMYK_PROFILE"\] must be the absolute path of an ICC profile of CMYK, ',
        ),
        ({"CMYK_PROFILE": "/nowhere.icc"}, r"/nowhere\.icc cannot be read: No such file"),
        ({"CDN": "img.example.org"}, r'^THUMBNAILS\["CDN"\] must be like https://'),
        ({"CDN": "https://img.example.org/"}, "without a path"),
        ({"CDN_API": "https://api.example.com"}, r'^THUMBNAILS\["CDN_API"\] must be an address'),
        ({"CDN_TOKEN": "one\ntwo"}, r'^THUMBNAILS\["CDN_TOKEN"\] must be one line of ASCII .*s\.$'),
        ({"CDN_API": "https://api.example.com/"}, r'^THUMBNAILS\["CDN"\] must be set where '),
        ({"THUMBNAIL_SIZE": 2}, r'^THUMBNAILS\["THUMBNAIL_SIZE"\] is unknown; the keys are .*SIZE'),
        ({1: 2}, r"^THUMBNAILS\[1\] is unknown"),
        ([("SIZE", 2)], "^THUMBNAILS must be a dict, not "),
        (
            {
                "VARIANTS": "@2x.jpg=512, .webp, .webp=0,@2X.webp=512, .gif=1, .jpg=9, 1.jpg=9,"
                "-large_jpg=2, ../a.jpg=7, @1x.webp=256"
            },
            (
                r"(?s)^(?!.*'@2x\.jpg' ).*VARIANTS\"\]: '\.webp' is given 2 times\."
                r".*'@2X\.webp' is not a suffix.*'\.gif' is not.*'\.jpg' is the thumbnail itself"
                r".*'1\.jpg' is not.*'-large_jpg' is not.*'\.\./a\.jpg' is not.*'@1x\.webp' is not"
                r".*size of '\.webp' must be a whole number from 1 to 4,096, not ''\."
                r".*size of '\.webp' must be .*, not 0\."
            ),
        ),
        ({"VARIANTS": {".webp": "256"}}, r"size of '\.webp' must be .*, not '256'\.$"),
        ({"VARIANTS": [".webp"]}, r"VARIANTS\"\] must be a text such as .*, or a dict of sizes"),
        ({"VARIANTS": {f"-{n}.jpg": 9 for n in range(17)}}, "17 variants are more than 16"),
        ({"SIZE": 0, "QUALITY": 0, "DIR": "/"}, r'"SIZE".*"QUALITY".*"DIR"'),
    ],
)
def test_settings__a_wrong_entry_of_the_dict_is_named(
    settings: Settings, values: object, complaint: str
) -> None:
    settings.THUMBNAILS = values
    with pytest.raises(ImproperlyConfigured, match=complaint) as refused:
        conf.current()
    assert "sorl" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "app", "is_explained"),
    [((200, 200), "", True), (0, "", False), (0, "sorl.thumbnail", True)],
)
def test_settings__a_wrong_value_that_may_be_another_packages_is_explained(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    value: object,
    app: str,
    is_explained: bool,
) -> None:
    if app:
        monkeypatch.setitem(apps.app_configs, app, other_app(app))
    settings.THUMBNAIL_SIZE = value
    with pytest.raises(ImproperlyConfigured, match=r"^THUMBNAIL_SIZE must be ") as refused:
        conf.current()
    explanation = "another package, such as sorl-thumbnail or easy-thumbnails. Put .* THUMBNAILS = "
    assert refused.match(explanation) if is_explained else "sorl" not in str(refused.value)


def test_renders_per_minute__admit_a_script_that_renders_ten_a_second() -> None:
    assert conf.current().renders_per_minute == 10 * 60


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"", "is not an ICC profile", id="empty"),
        pytest.param(bytes(200), "is not an ICC profile", id="other"),
        pytest.param(profiles.srgb(), "is an ICC profile of RGB, not of CMYK", id="RGB"),
        pytest.param(profiles.red_cyan()[:-1], "is the beginning of an ICC profile", id="cut-off"),
        pytest.param(
            profiles.red_cyan().replace(b"A2B0", b"B2A0", 1), "without a table", id="one-way"
        ),
    ],
)
def test_cmyk_profile__that_is_none_stops_the_start(
    settings: Settings, tmp_path: Path, content: bytes, fault: str
) -> None:
    path = tmp_path / "press.icc"
    path.write_bytes(content)
    settings.THUMBNAIL_CMYK_PROFILE = str(path)
    with pytest.raises(ImproperlyConfigured, match=f"^THUMBNAIL_CMYK_PROFILE: {path} .*{fault}"):
        conf.current()

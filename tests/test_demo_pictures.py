"""The demo originals: 61 that can be rendered, of every kind, and two that cannot."""

import io
from pathlib import Path

import pi_heif
import pytest
from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat

from thumbsite.demo import pictures
from thumbsite.demo.pictures import LANDSCAPE, make_demo_pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_demo_pictures(tmp_path_factory.mktemp("demo") / "made" / "here")


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures' pixels, from 0 to 255."""
    delta = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    return max(ImageStat.Stat(delta).mean)


def named(made: list[Path], part: str) -> list[Path]:
    return [path for path in made if part in path.name]


def test_made__all_are_there_in_order(made: list[Path]) -> None:
    assert len(made) == 63
    assert [int(path.name[:2]) for path in made] == list(range(1, 64))
    assert sorted(made[0].parent.iterdir()) == made


def test_made__are_the_same_every_time(made: list[Path], tmp_path: Path) -> None:
    again = make_demo_pictures(tmp_path)
    assert [path.name for path in again] == [path.name for path in made]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made]


def test_made__two_cannot_be_decoded(made: list[Path]) -> None:
    with Image.open(made[61]) as image, pytest.raises(OSError, match="truncated"):
        image.load()
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(made[62])


def test_made__pillow_reads_all_but_three_of_every_format_and_mode(made: list[Path]) -> None:
    kinds = set()
    for path in made[:60]:
        with Image.open(path) as image:
            image.load()
            kinds.add((image.format, image.mode))
    assert kinds >= {
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("AVIF", mode) for mode in ("RGB", "RGBA")),
        *(("GIF", "P"), ("TIFF", "RGB"), ("BMP", "RGB")),
    }


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation__is_upright_for_viewers_that_apply_it(
    made: list[Path], orientation: int
) -> None:
    size = LANDSCAPE
    (path,) = named(made, f"orientation-{orientation}-landscape")
    upright = pictures.scene(int(path.name[:2]), size)
    with Image.open(path) as stored:
        assert stored.getexif()[pictures.ORIENTATION_TAG] == orientation
        assert stored.size == (size if orientation < 5 else size[::-1])
        assert difference(ImageOps.exif_transpose(stored), upright) < 3
        if orientation > 1:
            assert difference(stored.resize(size), upright) > 10


def test_transparency__is_the_sky(made: list[Path]) -> None:
    parts = ("alpha", "palette-transparent", "colour-key")
    paths = [path for part in parts for path in named(made, part)]
    assert len(paths) == 7
    for path in paths:
        with Image.open(path) as image:
            alpha = image.convert("RGBA").getchannel("A")
        assert alpha.getpixel((5, 5)) == pytest.approx(0, abs=3)
        assert alpha.getpixel((5, alpha.height - 5)) == pytest.approx(255, abs=3)


def test_display_p3__is_a_profile_in_the_right_colours(made: list[Path]) -> None:
    path = named(made, "display-p3.png")[0]
    with Image.open(path) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        seen = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
        meant = pictures.scene(int(path.name[:2]), image.size)
        assert "Display P3" in ImageCms.getProfileDescription(profile)
        assert seen is not None
        assert difference(seen, meant) < 2
        assert difference(image, meant) > 5


def test_heic__is_the_scene_of_its_number(made: list[Path]) -> None:
    (path,) = named(made, ".heic")
    image = pi_heif.open_heif(path).to_pillow()
    meant = pictures.to_display_p3(pictures.scene(int(path.name[:2]), LANDSCAPE))
    assert image.size == LANDSCAPE
    assert difference(image, meant) < 3


def test_grey_16_bit__uses_the_whole_range(made: list[Path]) -> None:
    with Image.open(named(made, "grey-16-bit")[0]) as image:
        assert image.getextrema()[1] == 65_535


def test_names__some_lie(made: list[Path]) -> None:
    with Image.open(named(made, "jpeg-named.png")[0]) as image:
        assert image.format == "JPEG"
    with Image.open(named(made, "png-named.jpg")[0]) as image:
        assert image.format == "PNG"


def test_animations__have_frames(made: list[Path]) -> None:
    frames = []
    for path in named(made, "animated"):
        with Image.open(path) as image:
            frames.append(getattr(image, "n_frames", 1))
    assert frames == [3, 3]

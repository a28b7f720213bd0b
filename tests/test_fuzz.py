"""A fixed share of `make fuzz`, and what the program does about findings."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import pictures
from tests.fuzz import seeds
from tests.fuzz.__main__ import main, work
from tests.processes import ROOT

DECODER = '''
"""Python imports it at its start: a decoder that does what a file says."""

import sys

if "tests.fuzz.worker" in sys.orig_argv:
    import ctypes
    import os
    from io import BytesIO

    from thumbnails.rendering import Recipe
    from thumbnails.rendering import render as rendering

    real = rendering.render
    with open(os.environ["FUZZ_PICTURE"], "rb") as file:
        picture = file.read()

    def render(file, recipe, **options):
        word = file.read(10)
        if word == b"segfault":
            ctypes.string_at(0)
        elif word == b"hang":
            while True:
                pass
        elif word == b"memory":
            raise MemoryError
        elif word == b"large":
            return real(BytesIO(picture), Recipe(size_px=17), **options)
        elif word == b"other":
            return real(BytesIO(picture), recipe, **options)
        raise KeyError("planted")

    rendering.render = render
'''


@pytest.fixture
def bad_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have it."""
    folder = tmp_path / "decoder"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DECODER)
    (folder / "picture").write_bytes(pictures.jpeg())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv("FUZZ_PICTURE", str(folder / "picture"))


def written(folder: Path, *contents: bytes) -> list[str]:
    paths = [folder / f"file-{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return list(map(str, paths))


def test_files__of_a_fixed_share_break_nothing() -> None:
    formats = [format_ for format_ in seeds.formats() if seeds.of(format_)]
    events = list(work(["--batches=1", "--formats", *formats], limit_seconds=20))
    assert [event.wrong for event in events if event.wrong] == []
    assert [event.format for event in events] == formats
    # Damage that a decoder does not notice, and damage that it refuses.
    assert all(0 < event.rendered < event.tried for event in events)


def test_seeds__are_good_pictures(tmp_path: Path) -> None:
    paths = written(tmp_path, *(seed for name in seeds.formats() for seed in seeds.of(name)))
    assert list(work(["--files", *paths], limit_seconds=20)) == []


@pytest.mark.usefixtures("bad_decoder")
def test_findings__are_all_kinds_of_what_may_be_wrong(tmp_path: Path) -> None:
    words = (b"raise", b"memory", b"large", b"other", b"segfault")
    found = list(work(["--files", *written(tmp_path, *words)], limit_seconds=20))
    assert [(event.data, event.wrong.split(":")[0]) for event in found] == [
        (b"raise", "rendering raises KeyError at sitecustomize.py"),
        (b"memory", "rendering takes more memory than it may"),
        (b"large", "the thumbnail is larger than its recipe's size"),
        (b"other", "inspection refuses what is rendered"),
        (b"segfault", "the process died of SIGSEGV"),
    ]


def test_finding__is_saved_and_can_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    (path,) = written(tmp_path, b"hang")
    assert main(["--replay", path]) == 0
    request.getfixturevalue("bad_decoder")
    assert main(["--replay", path, "--limit=0.5"]) == 1
    assert "longer than 0.5 s" in capsys.readouterr().out

    folder = tmp_path / "findings"
    assert main(["--minutes=0.001", "--format=bmp", f"--folder={folder}"]) == 1
    (saved,) = folder.iterdir()
    said = capsys.readouterr().out
    assert "BMP: rendering raises KeyError" in said
    assert f'make fuzz ARGS="--replay {os.path.relpath(saved)}"' in said
    assert "100 (0% rendered) tried; 1 findings" in said


@pytest.mark.parametrize("arguments", [["--format=EPS"], ["--replay", "/nowhere"]])
def test_usage__that_is_wrong_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.skipif(find_spec("atheris") is not None, reason="atheris is installed")
def test_atheris__that_is_not_installed_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--atheris"]) == 2
    assert "pip install atheris" in capsys.readouterr().out

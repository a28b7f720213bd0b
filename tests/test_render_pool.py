"""Render processes: what a picture does to its process happens to no other picture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image
from pytest_django import Settings

from tests import pictures, profiles
from tests.processes import ROOT
from tests.programs import program
from tests.waiting import PATIENCE_SECONDS, is_alive, wait_for
from thumbnails.exceptions import (
    Crashed,
    StorageFailure,
    ThumbnailError,
    TooLarge,
    Unreadable,
    Unsupported,
)
from thumbnails.rendering import Facts, Recipe, Rendering, Spool, read_stamp
from thumbnails.rendering.pool import Limits, NotDecoded, RenderPool
from thumbnails.upkeep.images import pools, serving

STAMP = "0123456789abcdef"
MAX_PIXELS = 10**6
BROAD = Limits(seconds=PATIENCE_SECONDS, memory_bytes=2**30)
BRIEF = Limits(seconds=1, memory_bytes=2**30)
"""For pictures that take longer than anything; the good ones take some milliseconds."""

DECODER = '''
"""Python imports it when a render process starts: a decoder that does what a picture says."""

import sys

if "thumbnails.rendering.process" in sys.orig_argv:
    import ctypes
    import os
    import signal
    import time
    from multiprocessing.connection import Connection
    from pathlib import Path

    from thumbnails.rendering import inspection
    from thumbnails.rendering import render as rendering

    real, real_inspect = rendering.render, inspection.inspect
    folder = Path(__file__).parent

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(folder / "unpickled"),)

    def render(file, *args, **kwargs):
        word = file.read(20).split(b":")[0].decode(errors="replace")
        file.seek(0)
        (folder / f"began-{os.getpid()}").touch()
        if word == "segfault":
            ctypes.string_at(0)
        elif word == "hang":
            libc = ctypes.PyDLL(None)  # unlike CDLL keeps the GIL
            while True:
                libc.sleep(1_000_000)
        elif word == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif word == "exit":
            os._exit(3)
        elif word == "answer":
            Connection(int(sys.argv[1])).send(Evil())
            time.sleep(1_000_000)
        elif word == "send":
            file.seek(5)
            connection = Connection(int(sys.argv[1]))
            connection.send_bytes(file.read())
            connection.send_bytes(b"content")
            time.sleep(1_000_000)
        elif word == "half":
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            os.write(int(sys.argv[1]), b"x")
            time.sleep(1_000_000)
        elif word == "noise":
            for _ in range(100):
                try:
                    os.write(2, b"noise\\n" * 1000)
                except BlockingIOError:
                    pass
            os._exit(3)
        elif word.startswith("kill"):
            if len(list(folder.glob("began-*"))) <= int(word.removeprefix("kill")):
                os.kill(os.getpid(), signal.SIGKILL)
            file.seek(6)
            from io import BytesIO
            file = BytesIO(file.read())
        return real(file, *args, **kwargs)

    def inspect(file, **kwargs):
        word = file.read(20).split(b":")[0].decode(errors="replace")
        file.seek(0)
        (folder / f"began-{os.getpid()}").touch()
        if word == "spin":
            libc = ctypes.PyDLL(None)  # unlike CDLL keeps the GIL, so no Python runs meanwhile
            buffer = ctypes.create_string_buffer(2**24)
            while True:
                libc.memset(buffer, 1, 2**24)
        elif word == "gobble":
            bytearray(100 * 2**20)
        elif word == "eat":
            bytearray(60 * 2**20)
        return real_inspect(file, **kwargs)

    rendering.render = render
    inspection.inspect = inspect
'''


@pytest.fixture(autouse=True)
def no_others() -> None:
    """The processes that are counted are the test's own."""
    pools.close_all()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In it, the decoder says of each process that it began with a picture."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DECODER)
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def pool(folder: Path) -> Iterator[RenderPool]:
    with RenderPool(1, BROAD) as pool:
        yield pool


@pytest.fixture
def brief_pool(folder: Path) -> Iterator[RenderPool]:
    with RenderPool(1, BRIEF) as pool:
        yield pool


def render(pool: RenderPool, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Rendering:
    with Spool.of(data) as spool:
        rendering, _ = pool.render(
            spool, Recipe(), name="a.jpg", fingerprint=STAMP, max_pixels=max_pixels
        )
    return rendering


def inspect(pool: RenderPool, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Facts:
    with Spool.of(data) as spool:
        return pool.inspect(spool, name="a.jpg", max_pixels=max_pixels)


def assert_works(pool: RenderPool) -> None:
    rendering = render(pool, pictures.jpeg())
    assert pictures.corners(pictures.opened(rendering.content)) == pictures.UPRIGHT


def render_processes(parent: psutil.Process | None = None) -> list[psutil.Process]:
    return [
        child
        for child in (parent or psutil.Process()).children()
        if is_alive(child) and "thumbnails.rendering.process" in child.cmdline()
    ]


# --- Good and bad pictures ------------------------------------------------------------------------


def test_render__gives_the_thumbnail_and_the_facts(pool: RenderPool) -> None:
    data = pictures.jpeg(pictures.scene(640, 480), orientation=6)
    with Spool.of(data) as spool:
        rendering, facts = pool.render(
            spool,
            Recipe(size_px=100),
            name="a.jpg",
            fingerprint=STAMP,
            max_pixels=MAX_PIXELS,
            with_facts=True,
        )
        assert facts == Facts(
            width=480,
            height=640,
            format="JPEG",
            mode="RGB",
            orientation=6,
            camera="Camera",
            compression="baseline",
        )
        assert pool.inspect(spool, name="a.jpg", max_pixels=MAX_PIXELS) == facts
        assert pool.is_whole(spool, name="a.jpg", max_pixels=MAX_PIXELS)
    image = pictures.opened(rendering.content)
    assert image.size == (rendering.width, rendering.height) == (100, 75)
    assert pictures.corners(image) == pictures.UPRIGHT
    assert read_stamp(rendering.content) == STAMP


def test_profile_for_cmyk__is_the_one_of_the_settings(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "press.icc"
    path.write_bytes(profiles.red_cyan())
    settings.THUMBNAIL_CMYK_PROFILE = str(path)
    cyan = pictures.saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF")
    with pools.new_pool(1) as pool:
        path.unlink()  # it was read at the start
        thumbnail = pictures.opened(render(pool, cyan).content)
    assert thumbnail.getpixel((4, 4)) == pytest.approx((255, 0, 0), abs=12)


def test_tiff__of_big_endian_grey_whose_zero_is_white_is_no_negative(pool: RenderPool) -> None:
    strip = bytes([0xF0, 0]) * 64 * 64
    data = pictures.tiff_of([strip], bits=[16], photometric=0, order=">")
    assert pictures.opened(render(pool, data).content).getpixel((32, 32)) == 0x0F


def test_limit__is_the_projects_own_whatever_the_parent_sets(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    # By default Pillow warns of more than 89 million pixels, and refuses more than 178 million.
    with RenderPool(1, BROAD) as pool, Spool.of(pictures.bomb(14_000, 14_000)) as spool:
        facts = pool.inspect(spool, name="a.png", max_pixels=200_000_000)
        assert (facts.width, facts.height) == (14_000, 14_000)
        with pytest.raises(TooLarge):
            pool.inspect(spool, name="a.png", max_pixels=195_999_999)


def test_noise__of_a_decoder_is_logged_with_the_pictures_name(
    pool: RenderPool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = bytearray(pictures.tiff())
    damaged[10:30] = bytes(20)
    with pytest.raises(Unreadable):  # libtiff writes what it finds to standard error
        render(pool, bytes(damaged))
    assert_works(pool)
    with pytest.raises(Crashed):  # twice as much as a pipe holds
        render(pool, b"noise:")
    of_libtiff, *of_both_processes = [record.message for record in caplog.records]
    assert of_libtiff.startswith("a.jpg: its decoder says: ZIPDecode: ")
    assert len(of_both_processes) == 2
    assert all(said.startswith("a.jpg: its decoder says: noise ") for said in of_both_processes)
    assert max(map(len, of_both_processes)) < 400
    assert capfd.readouterr().err == ""


def test_compare__marks_what_differs(pool: RenderPool) -> None:
    old, other = pictures.jpeg(), pictures.jpeg(pictures.scene(20, 10))
    same = pool.compare(old, old, max_pixels=MAX_PIXELS)
    assert same.share == 0
    assert same.picture is not None
    assert pictures.opened(same.picture).size == (64, 48)
    unlike = pool.compare(old, other, max_pixels=MAX_PIXELS)
    assert (unlike.share, unlike.picture) == (1, None)


def test_bad_picture__is_told_by_its_reason_and_costs_no_process(pool: RenderPool) -> None:
    assert_works(pool)
    (process,) = render_processes()
    with pytest.raises(Unreadable):
        render(pool, pictures.truncated())
    with pytest.raises(Unsupported, match="a text file"):
        render(pool, pictures.TEXT)
    with pytest.raises(TooLarge, match="1000 × 1001 pixels"):
        render(pool, pictures.bomb(1000, 1001))
    with Spool.of(pictures.truncated()) as spool:
        assert not pool.is_whole(spool, name="a.jpg", max_pixels=MAX_PIXELS)
    assert_works(pool)
    assert render_processes() == [process]


def test_pool__serves_more_threads_than_it_has_processes(folder: Path) -> None:
    sizes = [(10 + number, 30) for number in range(24)]

    def size_of(size: tuple[int, int]) -> tuple[int, int]:
        return pictures.opened(render(two, pictures.png(pictures.scene(*size))).content).size

    with RenderPool(2, BROAD) as two, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(size_of, sizes)) == sizes
        assert len(render_processes()) <= 2


def test_render__is_not_begun_where_it_is_told_to_stop(pool: RenderPool, folder: Path) -> None:
    with Spool.of(pictures.jpeg()) as spool, pytest.raises(NotDecoded):
        pool.render(
            spool,
            Recipe(),
            name="a.jpg",
            fingerprint=STAMP,
            max_pixels=MAX_PIXELS,
            should_stop=lambda: True,
        )
    assert not list(folder.glob("began-*"))
    assert_works(pool)


# --- Pictures that end their process --------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "words"),
    [("segfault", "died of SIGSEGV, 2 times"), ("exit", "ended with status 3, 2 times")],
)
def test_crash__convicts_after_two_deaths_and_the_next_picture_works(
    pool: RenderPool, folder: Path, word: str, words: str
) -> None:
    with pytest.raises(Crashed, match=words):
        render(pool, f"{word}:".encode())
    assert len(list(folder.glob("began-*"))) == 2  # each in a process of its own
    assert_works(pool)


@pytest.mark.parametrize("word", ["hang", "stop"])
def test_hang__is_ended_and_the_next_picture_works(brief_pool: RenderPool, word: str) -> None:
    with pytest.raises(Crashed, match="took longer than 1 s, 2 times"):
        render(brief_pool, f"{word}:".encode())
    assert_works(brief_pool)
    assert len(render_processes()) == 1


def test_memory__is_limited_and_the_next_picture_works(folder: Path) -> None:
    limits = Limits(seconds=PATIENCE_SECONDS, memory_bytes=400 * 2**20)
    with RenderPool(1, limits) as pool:
        with pytest.raises(Crashed, match="took more than 400 MiB of memory, 2 times"):
            render(pool, pictures.bomb(20_000, 15_000), max_pixels=10**9)
        assert_works(pool)


@pytest.mark.parametrize(
    ("word", "message"), [("spin", "longer than 1 s"), ("gobble", "more than 100 MiB")]
)
def test_inspection__that_takes_long_or_much_memory_is_not_tried_again(
    pool: RenderPool, folder: Path, word: str, message: str
) -> None:
    with pytest.raises(Crashed, match=f"^Reading its header takes {message}"):
        inspect(pool, f"{word}:".encode())
    assert len(list(folder.glob("began-*"))) == 1
    with pytest.raises(Unsupported):
        inspect(pool, b"eat:")
    assert_works(pool)


def test_inspection__of_a_large_webp_may_reserve_its_memory(pool: RenderPool) -> None:
    facts = inspect(pool, pictures.webp_header(8_000, 10_000), max_pixels=10**8)
    assert (facts.width, facts.height) == (8_000, 10_000)


@pytest.mark.parametrize("times", [1, 2, 4])
def test_kill__from_outside_convicts_no_picture(pool: RenderPool, folder: Path, times: int) -> None:
    rendering = render(pool, f"kill{times}:".encode() + pictures.jpeg())
    assert pictures.corners(pictures.opened(rendering.content)) == pictures.UPRIGHT
    assert len(list(folder.glob("began-*"))) == times + 1


def test_kill__again_and_again_comes_to_an_end(pool: RenderPool, folder: Path) -> None:
    with pytest.raises(Crashed, match="died of SIGKILL, 5 times"):
        render(pool, b"kill9:")
    assert_works(pool)


def test_kill__of_an_idle_process_is_not_noticed(pool: RenderPool) -> None:
    assert_works(pool)
    (process,) = render_processes()
    process.kill()
    assert_works(pool)
    assert render_processes() != [process]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals__that_are_for_the_parent_end_no_process(
    pool: RenderPool, number: signal.Signals
) -> None:
    assert_works(pool)
    (process,) = render_processes()
    assert os.getsid(process.pid) != os.getsid(0)  # nor does Ctrl-C reach it
    process.send_signal(number)
    assert_works(pool)
    assert render_processes() == [process]


# --- Answers of a process that was taken over -----------------------------------------------------


def test_answer__is_never_unpickled(brief_pool: RenderPool, folder: Path) -> None:
    with pytest.raises(Crashed):
        render(brief_pool, b"answer:")
    assert not (folder / "unpickled").exists()
    assert_works(brief_pool)


WRONG: list[dict[str, object]] = [
    {"files": [["x", None, 7]]},
    {"facts": {"width": 1}},
    {"files": [[257, 1, 7]]},  # larger than the recipe's
    {"files": [[1, 1, 6], [1, 1, 1]]},  # more than it has
    {"files": [[1, 1, 6]]},  # of less than what follows
    {"files": [[1, 1, 8]]},
    {"hash": "not base64!"},
    {"hash": "AAAA"},
    {"note": "cut"},
]


def json_answer(wrong: dict[str, object]) -> bytes:
    """As a process sends it in front of seven bytes, but for what is wrong."""
    return json.dumps(
        {"files": [[1, 1, 7]], "hash": "", "note": "", "facts": None} | wrong
    ).encode()


NO_ANSWERS = [
    b"",
    b"no JSON",
    b"\xff",
    b"[]",
    b"{}",
    b"3",
    b'{"error": 5}',
    b'{"error": "unreadable"}',
    b'{"error": ["unreadable"], "message": "x"}',
    *map(json_answer, WRONG),
    b"[" * 100_000,
]


def test_answer__that_means_nothing_blames_the_picture_alone(brief_pool: RenderPool) -> None:
    for answer in NO_ANSWERS:
        with pytest.raises(ThumbnailError):
            render(brief_pool, b"send:" + answer)
        assert_works(brief_pool)


def test_answer__that_breaks_off_is_not_waited_for(folder: Path) -> None:
    pool = RenderPool(1, BRIEF)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(render, pool, b"half:")
        try:
            with pytest.raises(Crashed):
                future.result(PATIENCE_SECONDS / 2)
        finally:
            pool.close()


# --- The end --------------------------------------------------------------------------------------


def test_close__ends_processes_and_what_they_work_on(folder: Path) -> None:
    pool = RenderPool(2, BROAD)
    assert_works(pool)
    for mark in folder.glob("began-*"):
        mark.unlink()
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(render, pool, b"hang:")
        wait_for(lambda: list(folder.glob("began-*")), "the picture to begin")
        pool.close()
        with pytest.raises(NotDecoded):
            future.result(PATIENCE_SECONDS)
    assert render_processes() == []
    with pytest.raises(NotDecoded):
        render(pool, pictures.jpeg())
    pool.close()


def test_close__lets_those_go_who_wait_for_a_process(folder: Path) -> None:
    pool = RenderPool(1, BROAD)
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(render, pool, b"hang:") for _ in range(3)]
        wait_for(lambda: list(folder.glob("began-*")), "one picture to begin")
        pool.close()
        for future in futures:
            with pytest.raises(NotDecoded):
                future.result(PATIENCE_SECONDS)
    assert render_processes() == []


PARENT = """
import os, threading, time
sys.path[0] = os.getcwd()
from tests.test_render_pool import BRIEF, RenderPool, render
from tests import pictures
pools = [RenderPool(1, BRIEF), RenderPool(1, BRIEF)]
for pool in pools:
    render(pool, pictures.jpeg())
threading.Thread(target=render, args=[pools[0], b"hang:"], daemon=True).start()
print("ready", flush=True)
time.sleep(1_000_000)
"""


def test_parent__that_is_killed_leaves_neither_idle_nor_busy_processes(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with subprocess.Popen(
        program(PARENT), cwd=ROOT, env=environment, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = render_processes(psutil.Process(parent.pid))
        assert len(children) == 2
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(map(is_alive, children)), "the end of its processes")


# --- Starting them --------------------------------------------------------------------------------


def test_start__needs_no_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command may be started in a folder that is removed while it works."""
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    with RenderPool(1, BROAD) as pool:
        assert render(pool, pictures.jpeg()).content


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_start__that_fails_is_not_the_picture_s_fault(
    monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    with RenderPool(1, BROAD) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", python)
            with pytest.raises(StorageFailure, match="No render process can be started"):
                render(pool, pictures.jpeg())
        assert_works(pool)


def test_start__is_nice_where_asked() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with RenderPool(1, BROAD, nice=10) as pool:
        assert_works(pool)
        (process,) = render_processes()
        assert process.nice() == max(own, 10)


def test_start__works_where_modules_are_found_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with `python -c`, whose sys.path begins with an empty text."""
    rest = [path for path in sys.path if path and Path(path).resolve() != ROOT]
    monkeypatch.setattr(sys, "path", ["", *rest])
    monkeypatch.chdir(ROOT)
    with RenderPool(1, BROAD) as pool:
        assert_works(pool)


# --- Spools ---------------------------------------------------------------------------------------


def content_of(spool: Spool) -> bytes:
    return os.pread(spool.fileno(), 2**24, 0)


def test_spool__that_is_used_again_has_nothing_of_the_picture_before(tmp_path: Path) -> None:
    with Spool.of(b"a secret" * 100_000) as spool:
        number = spool.fileno()
    with Spool() as again:
        assert again.fileno() == number
        assert content_of(again) == b""
        again.write([b"short", b"er"])
        assert content_of(again) == b"shorter"
    with Spool.of(b"") as again:
        assert content_of(again) == b""
    path = tmp_path / "file"
    path.write_bytes(b"from a file")
    with Spool.of(b"a secret" * 100_000):
        pass
    with path.open("rb") as file, Spool() as again:
        again.copy_from(file.fileno(), 4)
        assert content_of(again) == b"from"
        again.clear()
        again.copy_from(file.fileno(), 2)
        assert content_of(again) == b"fr"


def test_spool__of_an_empty_upload_is_no_picture() -> None:
    serving.render_upload(BytesIO(pictures.jpeg()))
    with pytest.raises(Unsupported):
        serving.render_upload(BytesIO(b""))
    with pytest.raises(Unsupported):
        serving.inspect_upload(BytesIO(b""))


def test_spool__of_a_large_picture_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnails.rendering.spool.KEPT_BYTES", 10)
    with Spool.of(b"x" * 11) as spool:
        number = spool.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_spool__is_read_from_its_beginning_by_each_process(pool: RenderPool) -> None:
    with Spool.of(pictures.jpeg()) as spool:
        for _ in range(3):
            assert pool.is_whole(spool, name="a.jpg", max_pixels=MAX_PIXELS)


def test_time__of_an_idle_process_does_not_count(brief_pool: RenderPool) -> None:
    assert_works(brief_pool)
    (process,) = render_processes()
    time.sleep(BRIEF.seconds + 0.2)
    assert_works(brief_pool)
    assert render_processes() == [process]

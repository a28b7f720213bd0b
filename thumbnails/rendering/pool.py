"""Disposable processes that decode one image at a time, with limits of time and memory.

A decoder that crashes, hangs or exhausts its memory ends its process and nothing else. Each
process has one image at a time and its own socket, so its parent knows which image it was.
"""

import base64
import json
import logging
import math
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from socket import socketpair
from typing import Any, Protocol, TypeVar

from thumbnails.exceptions import (
    Crashed,
    StorageFailure,
    ThumbnailError,
    TooLarge,
    Unreadable,
    Unsupported,
)
from thumbnails.rendering import thumbhash
from thumbnails.rendering.compare import Difference
from thumbnails.rendering.facts import Compression, Facts, Note, clean_text
from thumbnails.rendering.formats import DEFAULT_FORMATS
from thumbnails.rendering.process import HEADER_SECONDS, OUT_OF_MEMORY, READY
from thumbnails.rendering.recipe import Recipe
from thumbnails.rendering.render import Encoded, Rendering
from thumbnails.rendering.spool import Spool

logger = logging.getLogger(__name__)

NO_WARNINGS = ("-W", "ignore")
"""Damaged metadata makes Pillow warn, and the parent may run with warnings as errors."""
START_SECONDS = 30
"""Python and Pillow start in a tenth of a second; a machine that swaps needs longer."""
ATTEMPTS = 2
"""The first death may have any cause; a second one in a new process is due to the image."""
ATTEMPTS_IF_KILLED = 5
"""Decoders do not send themselves SIGKILL or SIGTERM: the system or an operator does."""
KILLED = {-signal.SIGKILL, -signal.SIGTERM}
HEADER_BYTES, CONTENT_BYTES = 2**16, 2**28
"""Largest header and content of an answer."""
PART_BYTES = 2**18
NOISE_BYTES, NOISE_LOGGED = 2**16, 300
"""Of what a decoder writes to standard error: bytes kept, as many as a pipe holds, and characters
logged."""

T = TypeVar("T")

ERRORS: dict[str, type[ThumbnailError]] = {
    error.reason.value: error
    for error in (Crashed, TooLarge, Unreadable, Unsupported, StorageFailure)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per image."""

    seconds: float
    """Wall time."""
    memory_bytes: int
    """Address space of the process (RLIMIT_AS)."""


class OpenFile(Protocol):
    """A spool or a file on disk."""

    def fileno(self) -> int: ...


Request = tuple[str, str, dict[str, Any]]
"""The name of a function in the process's WORK, the file's name for messages, and options."""


class NotDecoded(Exception):
    """The pool was closed, or the caller is to stop. Implies nothing about the image."""


def never() -> bool:
    """The `should_stop` of callers that never stop."""
    return False


class _Died(Exception):
    """The process ended; the message is the predicate of a sentence that says how."""

    def __init__(self, how: str, *, from_outside: bool = False) -> None:
        super().__init__(how)
        self.from_outside = from_outside


class _Channel:
    """The socket to a process. Reads messages of `Connection.send_bytes` with a timeout.

    `Connection.recv_bytes` has none for the rest of a message that has begun.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._content = bytearray()

    def clear(self) -> None:
        """Discard unsolicited data."""
        self._content.clear()

    def receive(self, give_up_at: float, *, at_most: int) -> bytes:
        """Returns one message. Raises TimeoutError, EOFError, ValueError."""
        (length,) = struct.unpack("!i", self._read(give_up_at, 4))
        if not 0 <= length <= at_most:
            raise ValueError(f"a message of {length} bytes")
        return self._read(give_up_at, length)

    def _read(self, give_up_at: float, size: int) -> bytes:
        while len(self._content) < size:
            seconds = max(0.0, give_up_at - time.monotonic())
            if not self._poll.poll(math.ceil(seconds * 1000)):
                raise TimeoutError
            part = os.read(self.connection.fileno(), PART_BYTES)
            if not part:
                raise EOFError
            self._content += part
        content = bytes(self._content[:size])
        del self._content[:size]
        return content


class _Noise:
    """What a process and its libraries, such as libtiff, write to standard error.

    A pipe of which no end blocks: what does not fit is lost, so that no decoder ever waits.
    """

    def __init__(self) -> None:
        ours, self.theirs = os.pipe()
        for end in (ours, self.theirs):
            os.set_blocking(end, False)
        self._ours = Connection(ours, writable=False)

    def log(self, level: int, name: str) -> None:
        """Log what was written since the last call, for the picture of that name."""
        try:
            said = os.read(self._ours.fileno(), NOISE_BYTES)
        except BlockingIOError:
            return
        if said:
            text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace"))
            logger.log(level, "%s: its decoder says: %.*s", name, NOISE_LOGGED, text.strip())

    def close(self) -> None:
        self._ours.close()


class RenderProcess:
    """One process, started for its first request and after each death."""

    def __init__(self, limits: Limits, *, nice: int = 0, cmyk_profile: bytes = b"") -> None:
        self._limits = limits
        self._cmyk_profile = cmyk_profile
        self._nice = nice
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: _Channel | None = None
        self._noise: _Noise | None = None
        self._name = ""
        """Of the picture that it was asked for last."""
        self._is_ended = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def ask(self, request: Request, file: OpenFile, parse: Callable[[Any, bytes], T]) -> T:
        """Returns what `parse` makes of the answer. Raises _Died; the next call restarts it."""
        _, self._name, _ = request
        channel = self._channel or self._start()
        give_up_at = time.monotonic() + self._limits.seconds
        try:
            channel.clear()
            channel.connection.send(request)
            send_handle(channel.connection, file.fileno(), self.pid)
            answer = json.loads(channel.receive(give_up_at, at_most=HEADER_BYTES))
            content = channel.receive(give_up_at, at_most=CONTENT_BYTES)
            if not isinstance(answer, dict):
                raise TypeError("not an object")
            if answer.get("error") == OUT_OF_MEMORY:
                raise MemoryError
            if self._noise is not None:
                self._noise.log(logging.INFO, self._name)
            return parse(answer, content)
        except TimeoutError:
            self.kill()
            raise _Died(f"took longer than {self._limits.seconds:g} s") from None
        except MemoryError:
            self.kill()
            megabytes = self._limits.memory_bytes // 2**20
            raise _Died(f"took more than {megabytes:,} MiB of memory") from None
        except (EOFError, OSError):
            raise self._death() from None
        except (ValueError, TypeError, KeyError, RecursionError):
            # A compromised decoder may answer anything.
            self.kill()
            raise _Died("sent an invalid answer") from None

    def kill(self) -> None:
        """Kill it, and with it the request in progress."""
        if self._process is not None:
            self._process.kill()
        self._forget()

    def end(self) -> None:
        """Kill it for good, from any thread. A thread with a request in progress cleans up."""
        self._is_ended = True
        if (process := self._process) is not None:
            process.kill()

    def _forget(self) -> None:
        if self._channel is not None:
            self._channel.connection.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                # One that waits for a disk that hangs cannot even be killed: leave it behind.
                self._process.wait(1)
        if self._noise is not None:
            self._noise.log(logging.WARNING, self._name)
            self._noise.close()
        self._process = self._channel = self._noise = None

    def _start(self) -> _Channel:
        with Spool.of(self._cmyk_profile) as profile:
            channel = self._launch(profile.fileno())
            if self._is_ended:  # by another thread
                self.kill()
                raise _Died("was ended", from_outside=True)
            self._wait_until_ready(channel)
        return channel

    def _launch(self, profile: int) -> _Channel:
        here, there = socketpair()
        program = [sys.executable, "-P", *NO_WARNINGS, "-m", "thumbnails.rendering.process"]
        limits = [str(self._limits.seconds), str(self._limits.memory_bytes)]
        noise = _Noise()
        with there:
            try:
                process = subprocess.Popen(  # noqa: S603  ours
                    [*program, str(there.fileno()), *limits, str(profile)],
                    stdin=subprocess.DEVNULL,
                    # Standard output is for a command's report.
                    stdout=subprocess.DEVNULL,
                    stderr=noise.theirs,
                    pass_fds=[there.fileno(), profile],
                    env=_environment(),
                    # The parent's may be removed, and then nothing could be imported.
                    cwd="/",
                    # Ctrl-C signals a whole process group; the parent handles it.
                    start_new_session=True,
                )
            except OSError as error:
                here.close()
                noise.close()
                raise StorageFailure(
                    f"No render process can be started: {error.strerror}."
                ) from error
            finally:
                os.close(noise.theirs)
        self._process = process
        self._noise = noise
        self._channel = channel = _Channel(Connection(here.detach()))
        return channel

    def _wait_until_ready(self, channel: _Channel) -> None:
        try:
            channel.receive(time.monotonic() + START_SECONDS, at_most=len(READY))
        except (EOFError, OSError, ValueError) as error:
            death = self._death()
            if death.from_outside:
                raise death from None
            raise StorageFailure(f"No render process can be started: it {death}.") from error
        if self._nice and self.pid is not None:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.pid, self._nice)

    def _death(self) -> _Died:
        """How it ended; kills it if it has not. Raises Crashed if it is proven to be due to the
        image."""
        process = self._process
        if process is None:  # `kill` was called meanwhile
            return _Died("was ended", from_outside=True)
        try:
            code = process.wait(1)
        except subprocess.TimeoutExpired:
            self.kill()
            return _Died("did not answer")
        self._forget()
        if code == -signal.SIGPROF:  # processor time, so another attempt would take as long
            raise Crashed(f"Reading its header takes longer than {HEADER_SECONDS} s.")
        if code >= 0:
            return _Died(f"ended with status {code}")
        return _Died(f"died of {signal.Signals(-code).name}", from_outside=code in KILLED)


def _environment() -> dict[str, str]:
    """With the parent's module path, and without address space or a thread for each core: there is
    a process a core."""
    # An empty entry is the current folder, which `-P` would leave out.
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


class RenderPool(AbstractContextManager["RenderPool"]):
    """A fixed number of render processes, shared by any number of threads. Originals are taken in
    these `formats`; `cmyk_profile` is the ICC profile whose digest the recipes have."""

    def __init__(
        self,
        processes: int,
        limits: Limits,
        *,
        formats: tuple[str, ...] = DEFAULT_FORMATS,
        cmyk_profile: bytes = b"",
        nice: int = 0,
    ) -> None:
        self._formats = formats
        self._processes = [
            RenderProcess(limits, nice=nice, cmyk_profile=cmyk_profile) for _ in range(processes)
        ]
        self._idle: queue.LifoQueue[RenderProcess] = queue.LifoQueue()
        for process in reversed(self._processes):
            self._idle.put(process)
        self._closed = threading.Event()

    def __exit__(self, *_: object) -> None:
        self.close()

    def render(
        self,
        file: OpenFile,
        recipe: Recipe,
        *,
        name: str,
        fingerprint: str,
        max_pixels: int,
        with_hash: bool = False,
        with_facts: bool = False,
        show_truncated: bool = False,
        should_stop: Callable[[], bool] = never,
    ) -> tuple[Rendering, Facts | None]:
        """Returns the thumbnail of the original, with its ThumbHash if `with_hash`, and the
        original's facts if `with_facts`. With `show_truncated` also of what is there of a
        truncated JPEG or PNG.

        Raises Unsupported, TooLarge, Unreadable; Crashed if the process crashed, hung or ran out
        of memory in each of ATTEMPTS; StorageFailure if no process can be started; NotDecoded if
        the pool is closed or `should_stop` returns True once a process is free.
        """
        options = {
            "recipe": recipe,
            "fingerprint": fingerprint,
            "max_pixels": max_pixels,
            "formats": self._formats,
            "with_hash": with_hash,
            "with_facts": with_facts,
            "show_truncated": show_truncated,
        }
        request = ("render_original", name, options)
        return self._ask(request, file, partial(_parsed_rendering, recipe), should_stop)

    def inspect(self, file: OpenFile, *, name: str, max_pixels: int) -> Facts:
        """Returns the facts of the original's header.

        Raises as `render`; Crashed at once if it takes longer than HEADER_SECONDS or more memory
        than HEADER_MEMORY_BYTES.
        """
        options = {"max_pixels": max_pixels, "formats": self._formats}
        return self._ask(("inspect", name, options), file, lambda answer, _: _parsed_facts(answer))

    def is_whole(self, file: OpenFile, *, name: str, max_pixels: int) -> bool:
        """Whether the image can be decoded completely. Raises as `render`."""
        options = {"max_pixels": max_pixels}
        return self._ask(("is_whole", name, options), file, lambda answer, _: bool(answer["whole"]))

    def compare(self, old: bytes, new: bytes, *, max_pixels: int) -> Difference:
        """Compare two thumbnails. Raises as `render`."""
        options = {"old_bytes": len(old), "max_pixels": max_pixels}
        with Spool.of(old) as both:
            both.write([new])
            return self._ask(("compare_both", "thumbnails", options), both, _parsed_difference)

    def close(self) -> None:
        """Kill all processes. Requests in progress raise NotDecoded."""
        self._closed.set()
        for process in self._processes:
            process.end()
        for process in self._all_idle():
            process.kill()
            self._idle.put(process)

    def _all_idle(self) -> list[RenderProcess]:
        """Take all idle processes; the caller has to put them back."""
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        return idle

    def _ask(
        self,
        request: Request,
        file: OpenFile,
        parse: Callable[[Any, bytes], T],
        should_stop: Callable[[], bool] = never,
    ) -> T:
        def parsed(answer: Any, content: bytes) -> T | ThumbnailError:
            if "error" in answer:
                return ERRORS[answer["error"]](str(answer["message"]))
            return parse(answer, content)

        with self._process() as process:
            if should_stop():
                raise NotDecoded
            found = self._attempt(lambda: process.ask(request, file, parsed))
        if isinstance(found, ThumbnailError):
            raise found
        return found

    def _attempt(self, ask: Callable[[], T]) -> T:
        """The answer, if necessary from another process. Raises Crashed."""
        deaths: list[_Died] = []
        while True:
            try:
                return ask()
            except _Died as death:
                if self._closed.is_set():
                    raise NotDecoded from None
                deaths.append(death)
                own = sum(1 for one in deaths if not one.from_outside)
                if own >= ATTEMPTS or len(deaths) >= ATTEMPTS_IF_KILLED:
                    raise Crashed(_verdict(list(map(str, deaths)))) from None

    @contextmanager
    def _process(self) -> Iterator[RenderProcess]:
        """Yields a process for exclusive use. Waits, without a limit, until one is free."""
        if self._closed.is_set():
            raise NotDecoded
        process = self._idle.get()
        try:
            if self._closed.is_set():
                raise NotDecoded
            yield process
        finally:
            if self._closed.is_set():
                process.kill()
            self._idle.put(process)


def _parsed_rendering(
    recipe: Recipe, answer: Any, content: bytes
) -> tuple[Rendering, Facts | None]:
    facts = None if answer["facts"] is None else _parsed_facts(answer["facts"])
    sizes_px = [recipe.size_px, *(variant.size_px for variant in recipe.variants)]
    thumbnail, *variants = _parsed_files(sizes_px, answer["files"], content)
    suffixes = (variant.suffix for variant in recipe.variants)
    rendering = Rendering(
        content=thumbnail.content,
        width=thumbnail.width,
        height=thumbnail.height,
        variants=dict(zip(suffixes, variants, strict=True)),
        thumb_hash=_parsed_hash(answer["hash"]),
        note=_parsed_note(answer["note"]),
    )
    return rendering, facts


def _parsed_hash(answer: Any) -> str:
    if answer:
        thumbhash.decode(base64.b64decode(answer, validate=True))
    return str(answer)


def _parsed_note(answer: Any) -> str:
    return Note(answer).value if answer else ""


def _parsed_files(sizes_px: list[int], answer: Any, content: bytes) -> Iterator[Encoded]:
    """A file for each size, none of them larger than asked for, and together the content."""
    begin = 0
    for size_px, (width, height, size_bytes) in zip(sizes_px, answer, strict=True):
        end = begin + _number(size_bytes)
        yield Encoded(
            content=content[begin:end],
            width=_number(width, at_most=size_px),
            height=_number(height, at_most=size_px),
        )
        begin = end
    if begin != len(content):
        raise ValueError(f"{len(content)} bytes instead of {begin}")


def _parsed_facts(answer: Any) -> Facts:
    return Facts(
        width=_number(answer["width"]),
        height=_number(answer["height"]),
        format=str(answer["format"])[:8],
        mode=str(answer["mode"])[:8],
        orientation=_number(answer["orientation"]),
        camera=clean_text(answer["camera"]),
        software=clean_text(answer["software"]),
        bit_depth=_number(answer["bit_depth"], at_most=64),
        has_alpha=bool(answer["has_alpha"]),
        color_profile=clean_text(answer["color_profile"]),
        compression=Compression(answer["compression"]).value if answer["compression"] else "",
        frames=_number(answer["frames"]),
        note=_parsed_note(answer["note"]),
    )


def _parsed_difference(answer: Any, content: bytes) -> Difference:
    return Difference(share=float(answer["share"]), picture=content if answer["pictured"] else None)


def _number(value: Any, *, at_most: int = 2**31 - 1) -> int:
    if not isinstance(value, int) or not 0 < value <= at_most:
        raise TypeError(f"{value!r} is not a number from 1 to {at_most}")
    return value


def _verdict(deaths: list[str]) -> str:
    """How the processes died, in one sentence."""
    if len(set(deaths)) == 1:
        return f"The process that decoded it {deaths[0]}, {len(deaths)} times."
    return f"The process that decoded it {', then '.join(deaths)}."

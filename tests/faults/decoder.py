"""In the render processes under test: a decoder that can be slow, crash or hang.

`tests/faults/site` brings it in.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, BinaryIO

from tests.faults.switchboard import Poison, Step, Switchboard
from thumbnails.rendering import Recipe, Rendering
from thumbnails.rendering import render as rendering

_render = rendering.render


def render(file: BinaryIO, recipe: Recipe, **options: Any) -> Rendering:
    """The real one, with what the switchboard says in front of it."""
    switchboard = Switchboard.of_environment()
    picture = Path(file.name).name
    switchboard.note(Step.BEGIN, picture)
    switchboard.wait(picture)
    match switchboard.poison_of(picture):
        case Poison.SEGFAULT:
            ctypes.string_at(0)
        case Poison.HANG:
            _hang()
        case None:
            pass
    done = _render(file, recipe, **options)
    switchboard.note(Step.END, picture)
    return done


def _hang() -> None:
    """As C code does that never comes back: no other thread of the process runs meanwhile."""
    libc = ctypes.PyDLL(None)  # unlike CDLL keeps the GIL
    while True:
        libc.sleep(1_000_000)

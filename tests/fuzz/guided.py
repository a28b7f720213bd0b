"""As `tests.fuzz.worker`, but atheris chooses the files, of one format.

It prefers what reaches new code of Pillow's in Python.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr

import atheris

with (
    redirect_stderr(io.StringIO()),  # a line for each module
    atheris.instrument_imports(include=["PIL", "thumbnails.rendering"]),
):
    from tests.fuzz.worker import BATCH, Trial, prepared

from tests.fuzz.mutations import STEP_BYTES, STEPS_AT_MOST

OPTIONS = ("-handle_segv=0", "-handle_abrt=0", "-handle_alrm=0", "-rss_limit_mb=0", "-timeout=0")
"""Of libFuzzer: crashes and limits are the trial's own affair."""


def main(arguments: Sequence[str]) -> None:
    options = prepared(arguments)
    trial = Trial(options, *options.formats)

    def try_one(told: bytes) -> None:
        trial.mutated(told)
        if trial.tried == BATCH:
            trial.say_how_many()

    seconds = max(1, round(options.until - time.monotonic()))
    limits = (f"-max_total_time={seconds}", f"-max_len={2 + STEPS_AT_MOST * STEP_BYTES}")
    atheris.Setup([sys.argv[0], *OPTIONS, *limits, f"-seed={options.batch % 2**31}"], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])

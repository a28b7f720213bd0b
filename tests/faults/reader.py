"""A visitor: reads the thumbnails in a cache over and over, until it is asked to end.

    python -m tests.faults.reader CACHE

Says how many it has read. Ends with an error at the first that is missing, cut short or damaged.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

from tests.pictures import opened
from thumbnails.storage.names import SHARDS


def main(cache: Path) -> None:
    asked_to_end = False

    def end(*_: object) -> None:
        nonlocal asked_to_end
        asked_to_end = True

    signal.signal(signal.SIGTERM, end)
    chance = random.Random(1)  # noqa: S311  no secret
    paths = [path for shard in SHARDS for path in (cache / shard).glob("[0-9]*.jpg")]
    read = 0
    while not asked_to_end:
        path = chance.choice(paths)
        content = path.read_bytes()
        try:
            opened(content)
        except OSError as error:
            sys.exit(f"{path} with {len(content)} bytes: {error}")
        if not content.endswith(b"\xff\xd9"):
            sys.exit(f"{path} with {len(content)} bytes lacks its end")
        read += 1
        time.sleep(0.002)  # or it would take a core of those who write
        if read == 1:
            sys.stdout.write("reading\n")
            sys.stdout.flush()
    sys.stdout.write(f"{read}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

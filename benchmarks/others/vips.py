"""libvips, in a process of its own: `python -m benchmarks.others.vips`.

Each line of its input is JSON: a picture, the side of the square that it fits inside, a quality,
and optionally a file for the thumbnail's pixels before they are encoded, a PNG.
"""

import json
import sys
import time
from typing import Any

import pyvips


def main() -> None:
    pyvips.cache_set_max(0)  # the second time a picture would cost nothing
    _say({"version": ".".join(str(pyvips.version(part)) for part in range(3))})
    for line in sys.stdin:
        path, side, quality, *kept = json.loads(line)
        try:
            answer = _measured(path, side, quality)
            for target in kept:
                _thumbnail(path, side).pngsave(target)
            _say(answer)
        except pyvips.Error as error:
            _say({"error": str(error)})


def _measured(path: str, side: int, quality: int) -> dict[str, object]:
    started = time.process_time()
    image = _thumbnail(path, side)
    options = {"Q": quality, "optimize_coding": True, "keep": "none", "background": 255}
    content = image.jpegsave_buffer(**options)
    milliseconds = (time.process_time() - started) * 1000
    return {"ms": milliseconds, "size": [image.width, image.height], "bytes": len(content)}


def _thumbnail(path: str, side: int) -> Any:
    return pyvips.Image.thumbnail(path, side, height=side, size="down", output_profile="srgb")


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

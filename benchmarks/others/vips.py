"""libvips, in a process of its own: `python -m benchmarks.others.vips`.

Each line of its input is JSON: a picture, the side of the square that it fits inside, and a
quality.
"""

import json
import sys
import time


def main() -> None:
    import pyvips  # noqa: PLC0415  it is only where the other libraries are

    _say({"version": ".".join(str(pyvips.version(part)) for part in range(3))})
    for line in sys.stdin:
        path, side, quality = json.loads(line)
        started = time.process_time()
        image = pyvips.Image.thumbnail(path, side, height=side, size="down")
        options = {"Q": quality, "optimize_coding": True, "keep": "none", "background": 255}
        content = image.jpegsave_buffer(**options)
        milliseconds = (time.process_time() - started) * 1000
        _say({"ms": milliseconds, "size": [image.width, image.height], "bytes": len(content)})


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

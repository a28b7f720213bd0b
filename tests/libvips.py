"""libvips, an independent renderer, whose thumbnails are references for tests.

In a process of its own, since one that has loaded libvips may hang after a fork, and tests fork.
Each line of its input is JSON: a picture's length in bytes, which follow, and libvips' options.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float64]


class References:
    """The process that is asked, from `with` to its end."""

    def __enter__(self) -> References:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def thumbnail(self, data: bytes, size_px: int, **options: object) -> Pixels:
        """Returns the RGB values, 0 to 255, of a thumbnail on white. Raises ValueError with what
        libvips says of a picture that it does not show."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        request = {"bytes": len(data), "size_px": size_px, "options": options}
        requests.write(json.dumps(request).encode() + b"\n" + data)
        requests.flush()
        answer = json.loads(answers.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        content = answers.read(answer["height"] * answer["width"] * 3)
        pixels = np.frombuffer(content, np.uint8).astype(np.float64)
        return pixels.reshape(answer["height"], answer["width"], 3)


def main(requests: IO[bytes], answers: IO[bytes]) -> None:
    import pyvips  # noqa: PLC0415  only in this process

    for line in requests:
        request = json.loads(line)
        data = requests.read(request["bytes"])
        try:
            image = _thumbnail(pyvips, data, request["size_px"], request["options"])
            content = image.write_to_memory()
        except pyvips.Error as error:
            answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        else:
            answer = {"width": image.width, "height": image.height}
            answers.write(json.dumps(answer).encode() + b"\n" + content)
        answers.flush()


def _thumbnail(pyvips: Any, data: bytes, size_px: int, options: dict[str, object]) -> Any:
    image = pyvips.Image.thumbnail_buffer(
        data, size_px, height=size_px, size="down", export_profile="srgb", **options
    )
    if image.hasalpha():
        image = image.flatten(background=255)
    return image.colourspace("srgb").cast("uchar")


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)

"""The boxes of which the files of HEIC and JPEG XL consist (ISO/IEC 14496-12, 4.2)."""

from collections.abc import Iterator


def boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yields kind, and begin and end of what is in each box."""
    while at + 8 <= end:
        size, begin = int.from_bytes(content[at : at + 4]), at + 8
        if size == 1:
            size, begin = int.from_bytes(content[at + 8 : at + 16]), at + 16
        last = end if size == 0 else min(at + size, end)
        if last < begin:
            return
        yield content[at + 4 : at + 8], (begin, last)
        at = last

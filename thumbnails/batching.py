"""Taking many values a batch at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields lists of `size` of the values, the last one of the rest; the values are read as they
    are needed. As `itertools.batched` of Python 3.12, but lists."""
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch

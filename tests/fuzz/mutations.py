"""Hostile files, made of good ones by changes along their structure.

What is changed stands in instructions, some bytes that any engine may choose: Hypothesis draws
them, atheris derives them from what they reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.fuzz.structure import structure_of, with_checksums

BYTES_AT_MOST = 2**20
"""The largest file for which the limits of time and memory are promised."""
STEP_BYTES = 16
"""Instructions of one mutation."""
STEPS_AT_MOST = 5
REPEATS = (1, 2, 3, 10, 100, 2_000)
EXTREMES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 16_384, 65_500, 0x7FFFFFFF, -1)

T = TypeVar("T")


def instructions() -> st.SearchStrategy[bytes]:
    """Instructions for one file: its seed, then one to STEPS_AT_MOST mutations."""
    return st.binary(min_size=2 + STEP_BYTES, max_size=2 + STEPS_AT_MOST * STEP_BYTES)


def mutated(told: bytes, seeds: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """Returns one of the seeds after the mutations that are `told`.

    Parts of `others` may come into it.
    """
    first = _Choices(told[:2])
    data = first.of(seeds)
    for begin in range(2, len(told), STEP_BYTES):
        choose = _Choices(told[begin : begin + STEP_BYTES])
        if data:
            data = choose.of(MUTATIONS)(choose, data, others)[:BYTES_AT_MOST]
    # A decoder that refuses a wrong checksum would see nothing else.
    return data if first.below(8) == 0 else with_checksums(data)


class _Choices:
    """Numbers from instructions; zeros when these are used up."""

    def __init__(self, told: bytes) -> None:
        self._rest = int.from_bytes(told, "little")

    def below(self, limit: int) -> int:
        self._rest, chosen = divmod(self._rest, max(1, limit))
        return chosen

    def of(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]


def _set_number(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    numbers = structure_of(data).numbers
    if not numbers:
        return data
    number = choose.of(numbers)
    place = slice(number.position, number.position + number.width)
    old, limit = int.from_bytes(data[place], number.order), 256**number.width
    new = choose.of((choose.of(EXTREMES), old + choose.below(17) - 8, choose.below(limit)))
    return _replaced(data, place.start, (new % limit).to_bytes(number.width, number.order))


def _set_bytes(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    for _number in range(choose.below(4) + 1):
        data = _replaced(data, choose.below(len(data)), bytes([choose.below(256)]))
    return data


def _flip_bit(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    place = choose.below(len(data))
    return _replaced(data, place, bytes([data[place] ^ 1 << choose.below(8)]))


def _truncate(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: choose.below(len(data))]


def _repeat_part(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, end = choose.of(_parts(choose, data))
    return data[:end] + data[begin:end] * choose.of(REPEATS) + data[end:]


def _remove_part(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, end = choose.of(_parts(choose, data))
    return data[:begin] + data[end:]


def _copy_part(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    parts = _parts(choose, data)
    (begin, end), (to, _end) = choose.of(parts), choose.of(parts)
    return data[:to] + data[begin:end] + data[to:]


def _fill(choose: _Choices, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, end = _range(choose, data)
    return _replaced(data, begin, choose.of((b"\0", b"\xff")) * (end - begin))


def _splice(choose: _Choices, data: bytes, others: Sequence[bytes]) -> bytes:
    other = choose.of(others)
    begin, end = _range(choose, other)
    place = choose.below(len(data) + 1)
    if choose.below(2):
        return data[:place] + other[begin:end] + data[place:]
    return _replaced(data, place, other[begin:end])


MUTATIONS: tuple[Callable[[_Choices, bytes, Sequence[bytes]], bytes], ...] = (
    *(_set_number, _set_number, _set_number),  # they find the most
    *(_set_bytes, _flip_bit, _truncate, _fill, _splice),
    *(_repeat_part, _remove_part, _copy_part),
)


def _parts(choose: _Choices, data: bytes) -> list[tuple[int, int]]:
    return structure_of(data).parts or [_range(choose, data)]


def _range(choose: _Choices, data: bytes) -> tuple[int, int]:
    begin = choose.below(len(data) + 1)
    return begin, min(len(data), begin + choose.below(65))


def _replaced(data: bytes, position: int, part: bytes) -> bytes:
    return data[:position] + part + data[position + len(part) :]

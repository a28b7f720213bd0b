"""What became of each asset of a chunk: outcomes and fingerprints as packed bytes.

A row for each asset of each run would cost more than a small render. Entries are appended as the
work goes on and name their asset, so that they stay true if a chunk's ids are put into another
order; of several for one asset the last counts. Why an asset failed is in the chunk's `failures`.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from thumbnails.models.assets import Outcome
from thumbnails.models.results import Result

ENTRY = struct.Struct("<qc8s8s")
"""Id, code of the outcome, and the fingerprints before and after."""
CODES = {
    Outcome.RENDERED: b"r",
    Outcome.FRESH: b"s",
    Outcome.PURGED: b"p",
    Outcome.FAILED: b"f",
    Outcome.ACCEPTED: b"a",
}
_OUTCOMES = {code: outcome for outcome, code in CODES.items()}
_NONE = bytes(8)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a run did to one asset."""

    asset_id: int
    outcome: Outcome
    before: str
    """Fingerprint of the recorded thumbnail before; empty if there was none."""
    after: str


def pack(results: Iterable[Result]) -> bytes:
    """Returns the entries of these results, to be appended."""
    return b"".join(
        ENTRY.pack(each.asset_id, CODES[each.outcome], _packed(each.before), _packed(each.after))
        for each in results
    )


def unpack(entries: bytes) -> dict[int, Entry]:
    """Returns the last entry of each asset by its id."""
    return {
        asset_id: Entry(asset_id, _OUTCOMES[code], _unpacked(before), _unpacked(after))
        for asset_id, code, before, after in ENTRY.iter_unpack(entries)
    }


def _packed(fingerprint: str | None) -> bytes:
    return bytes.fromhex(fingerprint) if fingerprint else _NONE


def _unpacked(fingerprint: bytes) -> str:
    return "" if fingerprint == _NONE else fingerprint.hex()

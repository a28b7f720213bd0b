"""What earlier rows of a table said, in a temporary database on disk: there may be millions."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from thumbnails.upkeep.images.csv_rows import BadRow, Problem, Row

CACHE_KIB = 8 * 1024
"""Memory for it: the index of paths is read in random order."""


@dataclass(slots=True)
class _Said:
    """What the first row of an image said."""

    path: int
    date: str
    refused: bool = False


class SeenRows:
    """What earlier rows said of each image, in a temporary file."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute(
            "CREATE TABLE seen (id INTEGER PRIMARY KEY, path INTEGER, date TEXT, refused INTEGER)"
        )
        self._database.execute("CREATE UNIQUE INDEX by_path ON seen (path)")
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._by_id: dict[int, _Said] = {}
        self._owners: dict[int, int] = {}
        """Ids by the digests of paths."""

    def close(self) -> None:
        self._database.close()

    def load(self, rows: list[tuple[Row, str]]) -> None:
        """Read what is known of the images of a batch."""
        ids, paths = [row.id for row, _ in rows], [_digest(name) for _, name in rows]
        marks = ",".join("?" * len(rows))
        found = self._database.execute(
            f"SELECT * FROM seen WHERE id IN ({marks}) OR path IN ({marks})",  # noqa: S608  only marks
            [*ids, *paths],
        )
        said = {
            image_id: _Said(path, date, bool(refused)) for image_id, path, date, refused in found
        }
        self._by_id = said
        self._owners = {one.path: image_id for image_id, one in said.items()}

    def is_repeated(self, row: Row, name: str) -> bool:
        """Whether an earlier row has the same image. Raises BadRow if it says something else."""
        said = _Said(_digest(name), _text_of(row.created_at))
        earlier = self._by_id.get(row.id)
        if earlier is None:
            owner = self._owners.get(said.path)
            if owner is not None:
                raise BadRow(Problem.CONFLICT, f"An earlier row has {name} as image {owner}.")
            self._by_id[row.id] = said
            self._owners[said.path] = row.id
            return False
        if earlier.refused:
            raise BadRow(Problem.CONFLICT, f"An earlier row of image {row.id} was refused.")
        if earlier != said:
            raise BadRow(
                Problem.CONFLICT, f"An earlier row of image {row.id} has another path or date."
            )
        return True

    def refuse(self, image_id: int) -> None:
        """Refuse later rows of that image, too."""
        self._by_id[image_id].refused = True

    def save(self) -> None:
        """Save what the batch said."""
        self._database.executemany(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)",
            [(key, one.path, one.date, one.refused) for key, one in self._by_id.items()],
        )

    def largest_id(self) -> int:
        (largest,) = self._database.execute("SELECT max(id) FROM seen").fetchone()
        return int(largest or 0)

    def ids_of(self, ids: list[int]) -> set[int]:
        """Returns those of the ids that a row had."""
        marks = ",".join("?" * len(ids))
        rows = self._database.execute(f"SELECT id FROM seen WHERE id IN ({marks})", ids)  # noqa: S608  only marks
        return {image_id for (image_id,) in rows}


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


def _text_of(date: datetime | None) -> str:
    return "" if date is None else date.isoformat()

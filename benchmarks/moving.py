"""Moving in: another service's table and its thumbnails, on PostgreSQL."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.meters import Usage, metered, peak_memory_bytes
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure, Site
from tests.processes import database_url
from tests.servers import PostgresServer

ROWS_AT_LEAST = Bound(at_least=5_000)
SECONDS_AT_MOST = Bound(at_most=180)
GROWTH_AT_MOST = Bound(at_most=1.2)
PER_FOLDER = 1_000
SESSIONS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OldService:
    """A service with `count` images, the ids of which begin after `after`, and thumbnails."""

    home: Path
    count: int
    after: int = 0

    @property
    def table(self) -> Path:
        return self.home / "images.csv"

    @property
    def table_alone(self) -> Path:
        """Without the thumbnails."""
        return self.home / "alone.csv"

    def make(self, pictures: Sequence[Path]) -> None:
        """The thumbnails are links to the pictures, in folders of the service's own layout."""
        self.home.mkdir(parents=True)
        columns = "id,path,created_at,session_id,session_name"
        with self.table.open("w") as table, self.table_alone.open("w") as alone:
            table.write(f"{columns},thumbnail_path\n")
            alone.write(f"{columns}\n")
            for number in range(self.after + 1, self.after + self.count + 1):
                name = Path(f"{number // PER_FOLDER}") / f"{number}.jpg"
                (self.home / name).parent.mkdir(exist_ok=True)
                os.link(pictures[number % len(pictures)], self.home / name)
                session = number % SESSIONS + 1
                date = f"2019-05-01 12:30:{number % 60:02}+00"
                row = f"{number},2019/{name},{date},{session},Session {session}"
                table.write(f"{row},{name}\n")
                alone.write(f"{row}\n")


def measure(home: Path, pictures: Sequence[Path], *, count: int, judged: bool) -> Section:
    """`pictures` are JPEGs. `judged` is False for fewer rows than the bounds apply to."""
    many = OldService(home=home / "many", count=count)
    few = OldService(home=home / "few", count=max(1, count // 10), after=count)
    for service in (many, few):
        service.make(pictures)
    site = Site.create(home / "site")
    site.originals.mkdir()
    with PostgresServer() as server:
        with site.started("migrate", "--verbosity=0", DATABASE_URL=server.url):
            pass
        rows, _ = _import(site, many, many.table_alone, server)
        whole, peak_many = _import(site, many, many.table, server)
        _, peak_few = _import(site, few, few.table, server)
    return Section(
        title=f"import_images --from-csv, {count:,} rows, without looking at originals",
        rows=[
            Row(
                key="moving.rows_per_s",
                label="rows alone",
                value=count / rows.wall_seconds,
                unit="rows/s",
                digits=0,
                bound=ROWS_AT_LEAST,
                judged=judged,
            ),
            Row(
                key="moving.seconds",
                label="rows with as many old thumbnails",
                value=whole.wall_seconds,
                unit="s",
                bound=SECONDS_AT_MOST,
                judged=judged,
            ),
            Row(
                key="moving.memory_growth",
                label="its peak memory, to that for a tenth of them",
                value=peak_many / peak_few,
                unit="×",
                digits=2,
                bound=GROWTH_AT_MOST,
                judged=judged,
                note=f"{peak_many / 2**20:.0f} to {peak_few / 2**20:.0f} MiB",
            ),
        ],
    )


def _import(
    site: Site, service: OldService, table: Path, server: PostgresServer
) -> tuple[Usage, int]:
    """Import into a new database. Returns the usage, and the command's peak memory in bytes."""
    name = f"{service.home.name}_{table.stem}"
    with psycopg.connect(database_url(server.url, "template1"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE postgres").format(sql.Identifier(name))
        )
    options = ("--no-facts", "--old-thumbnails", str(service.home))
    arguments = ("import_images", "--from-csv", str(table), *options)
    settings = {"DATABASE_URL": database_url(server.url, name)}
    with metered() as usage, site.started(*arguments, **settings) as command:
        peak = peak_memory_bytes(command)
    said = site.said()
    if f"\n{service.count:,} added," not in f"\n{said}" or "Images imported without" in said:
        raise NothingToMeasure(f"The import of {service.count:,} rows said: {said[-2000:]}")
    return usage, peak

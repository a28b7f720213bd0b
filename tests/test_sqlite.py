"""The database backend: what it keeps is for the site's own user."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import COMMAND_SECONDS, ROOT
from tests.programs import program

MODES_WHILE_CONNECTED = """
import json, os
from pathlib import Path
from django.db import connection
os.umask(int(sys.argv[2]))
connection.cursor().execute("CREATE TABLE things (name text)")
folder = Path(sys.argv[1])
print(json.dumps({path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}))
"""


def modes_while_connected(folder: Path, umask: int, url: str) -> dict[str, int]:
    done = subprocess.run(
        program(MODES_WHILE_CONNECTED, folder, umask),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=True,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("umask", [0, 0o022])
def test_file__is_made_for_the_site_s_user_alone(tmp_path: Path, umask: int) -> None:
    """With the log and the index beside it."""
    folder = tmp_path / "site"
    folder.mkdir()
    found = modes_while_connected(folder, umask, f"sqlite:///{folder}/site.db")
    assert found == dict.fromkeys(("site.db", "site.db-wal", "site.db-shm"), 0o600)


def test_file__that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """Its owner may have opened it to a group."""
    path = tmp_path / "site.db"
    path.touch()
    path.chmod(0o660)
    assert modes_while_connected(tmp_path, 0o022, f"sqlite:///{path}")["site.db"] == 0o660


def test_file__is_none_for_a_database_in_memory(tmp_path: Path) -> None:
    modes_while_connected(tmp_path, 0o022, "sqlite://:memory:")
    assert not (ROOT / ":memory:").exists()

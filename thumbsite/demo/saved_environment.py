"""The settings that the demo site of this checkout keeps for other commands.

`manage.py` reads them before everything else, so nothing but the standard library is imported.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
VAR_DIR = BASE_DIR / "var"
ENVIRONMENT_FILE = VAR_DIR / "trial.env"


def load_environment() -> None:
    """Take over the settings of this checkout's demo site that the environment does not set.

    Does nothing if there is no demo site.
    """
    for name, value in read_environment_file().items():
        os.environ.setdefault(name, value)


def read_environment_file() -> dict[str, str]:
    try:
        lines = ENVIRONMENT_FILE.read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {name: value for name, equals, value in pairs if equals}

"""One contender's process: `python -m benchmarks.others NAME HOME`."""

import importlib
import sys
from pathlib import Path

from benchmarks.others.contender import Contender, serve


def contender(name: str, home: Path) -> Contender:
    if name == "ours":
        from benchmarks.others.ours import Ours  # noqa: PLC0415  the others need not have it

        return Ours(home)
    from benchmarks.others.project import Project  # noqa: PLC0415

    return Project(importlib.import_module(f"benchmarks.others.{name}").LIBRARY, home)


if __name__ == "__main__":
    serve(contender(sys.argv[1], Path(sys.argv[2])))

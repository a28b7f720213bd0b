"""Looks up what the site runs on in OSV, the database of known vulnerabilities: `make audit`.

Exit status: 0 none is known, 1 some are, 2 nothing was looked up. Arguments are pip-audit's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.processes import ROOT

COMMAND = [
    *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv"),
    # Everything is pinned: nothing has to be resolved or installed.
    *("--require-hashes", "--disable-pip", "--requirement", str(ROOT / "requirements.txt")),
    *("--progress-spinner", "off"),
]


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report"
        done = subprocess.run(
            [*COMMAND, "--output", str(report), *arguments],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        # Its status is 1 for a vulnerability and for an error alike, but an error has no report.
        found = report.read_text() if report.exists() else ""
    if done.returncode == 0:
        sys.stdout.write("No known vulnerabilities found\n")
        return 0
    if found:
        sys.stdout.write(found)
        return 1
    cause = done.stderr.strip().rpartition("\n")[2]
    sys.stderr.write(
        "The database of known vulnerabilities did not answer: nothing was looked up"
        f" ({cause.strip()}).\n"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""All tests, in several suites at once: `python -m tests.side_by_side [PYTEST'S ARGUMENTS]`.

Much of their time they wait for processes and leases, so that all suites together take little
longer than one. Each is a pytest with servers of its own, as tests.plugin starts them; in front of
each line stands whose it is.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from tests import lifeline
from tests.processes import ROOT

WITHOUT_DATABASE = (
    *("admin", "api_access", "api_tokens", "asset_page", "plans", "run_page"),
    *("api_bad_input", "api_schema", "api_schemas", "deadlines", "demo_pictures", "errors"),
    *("cache_folder", "headers", "layout", "locks", "makefile", "package_audit", "pictures"),
    *("postgresql", "processes", "production", "readiness", "readme", "render_pool", "rendering"),
    *("requirements", "servers", "side_by_side", "storage", "storage_errors"),
    *("sqlite", "supervisor", "demo"),
)
FAULTS_ONCE = (
    *("changed_cache", "changed_originals", "clocks", "command_signals", "disk"),
    *("foreign_locks", "hanging_original", "object_storage", "originals_away", "poison"),
    *("purge_while_read", "stopping", "storage_away", "versions"),
)
SUITES = {
    "postgresql": ["--database=postgresql", "-m", "not faults"],
    "faults": ["--database=postgresql", "-m", "faults"],
    # What does not depend on the database is looked at on PostgreSQL alone: what Chromium shows,
    # what is said over HTTP, files, and faults of theirs.
    "sqlite": [
        *("--database=sqlite", "-m", "not browser"),
        *(f"--ignore=tests/test_{name}.py" for name in WITHOUT_DATABASE),
        *(f"--ignore=tests/faults/test_{name}.py" for name in FAULTS_ONCE),
    ],
}
NO_TESTS = 5
"""pytest's status where none of the tests that are asked for is in a suite."""


def main(arguments: Sequence[str]) -> int:
    # To pytest its output is no terminal; ours may be one.
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    pytest = [sys.executable, "-m", "pytest", *colour]
    return run({name: [*pytest, *options, *arguments] for name, options in SUITES.items()})


def run(commands: Mapping[str, Sequence[str]]) -> int:
    """Run them to their ends; returns 0 where all ended well, else the status of one that did not.

    One that has none of the tests does not count, where another one has some.
    Ctrl-C and SIGTERM ask all of them to end, and are passed on each time they come.
    """
    # In sessions of their own, so that Ctrl-C reaches them through us alone: a second signal would
    # interrupt the cleaning up after the first. Should we be killed, they are asked to end too.
    processes = {
        name: lifeline.start(
            command,
            death_signal=signal.SIGTERM,
            cwd=ROOT,
            output=subprocess.PIPE,
            new_session=True,
        )
        for name, command in commands.items()
    }

    def end(*_: object) -> None:
        for process in processes.values():
            process.terminate()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    width = max(map(len, processes))
    threads = [
        threading.Thread(target=_relay, args=(f"{name:{width}} | ", process))
        for name, process in processes.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [process.wait() for process in processes.values()]
    if set(statuses) == {NO_TESTS}:
        return NO_TESTS
    return next((status for status in statuses if status not in (0, NO_TESTS)), 0)


def _relay(prefix: str, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:  # closed also where our output is not read any more
        for line in lines:
            # One write a line: those of two threads do not mix.
            sys.stdout.buffer.write(prefix.encode() + line.rstrip(b"\n") + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

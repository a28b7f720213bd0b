"""All tests, in several suites at once: `python -m tests.side_by_side [PYTEST'S ARGUMENTS]`.

Much of their time they wait for processes and leases, so that all suites together take little
longer than one. Each is a pytest with servers of its own, as tests.plugin starts them; in front of
each line stands whose it is.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence

from tests import lifeline
from tests.processes import ROOT

HTTP = {
    *("access", "admin", "admin_bounds", "api_access", "api_bad_input", "api_schema", "background"),
    *("api_schemas", "api_tokens", "asset_page", "custom_user", "errors", "headers", "healing"),
    *("plans", "queue_pages", "readiness", "requests", "run_page", "urls"),
}
"""Modules of what is said over HTTP."""
FILES = {
    *("audit", "benchmarks", "cache_folder", "csv_import", "demo_pictures", "importing", "locks"),
    *("moving_in", "package", "render_pool", "rendering", "rescan", "roots", "storage"),
    "storage_errors",
}
"""Modules of files, and what installs. All that are in no set run with the rest."""
PICTURES = {
    *("facts", "formats", "fuzz", "pictures", "references", "sources", "thumbhash", "truncated"),
    "variants",
}
"""Modules of what pictures are and become."""
FAULTS = (
    {"chaos", "company", "kills"},
    {
        *("command_signals", "commit_lost", "database", "database_away", "poison", "stopping"),
        "storage_away",
    },
)
"""Sets of modules of faults, which wait for most of their time."""
SQLITE = {
    *("assets", "counts", "csv_import", "events", "execute", "migrations", "overview", "pages"),
    *("recipes", "runs", "selection", "upgrade", "workers"),
}
FAULTS_ON_SQLITE = {"company"}
"""What runs on SQLite, too: what depends on the database, and where its single writer matters."""
NOT_ON_SQLITE = (
    "worker_that_wakes_up",  # leases expire by any database's clock; it waits for several
    "visitor",  # who reads files
    "forced_run",  # by the times of pictures, in any database
    "two_runs_at_once__do_no_double_work[default]",  # a forced run writes more
)


def _modules(folder: str) -> set[str]:
    return {path.stem.removeprefix("test_") for path in (ROOT / folder).glob("test_*.py")}


def _drives_a_browser(name: str) -> bool:
    text = (ROOT / "tests" / f"test_{name}.py").read_text(encoding="utf-8")
    return bool(
        re.search(r"^pytestmark = .*browser|^    pytest\.mark\.browser,", text, re.MULTILINE)
    )


def _only(modules: Collection[str] = (), faults: Collection[str] = ()) -> list[str]:
    """The options for just these modules: what pytest is not to run it need not read either."""
    wanted = {"tests": modules, "tests/faults": faults}
    return [
        f"--ignore={folder}/test_{name}.py"
        for folder, names in wanted.items()
        for name in sorted(_modules(folder).difference(names))
    ]


def _on_postgresql(marked: str, *options: str) -> list[str]:
    return ["--database=postgresql", "-m", marked, *options]


BROWSER = set(filter(_drives_a_browser, _modules("tests")))
REST = _modules("tests") - HTTP - FILES - PICTURES - BROWSER
FAULTS_REST = _modules("tests/faults").difference(*FAULTS)
SUITES = {
    "http": _on_postgresql("not browser and not faults", *_only(HTTP)),
    "files": _on_postgresql("not browser and not faults", *_only(FILES)),
    "pictures": _on_postgresql("not browser and not faults", *_only(PICTURES)),
    "rest": _on_postgresql("not browser and not faults", *_only(REST)),
    "browser": _on_postgresql("browser", *_only(BROWSER)),
    **{
        f"faults-{number}": _on_postgresql("faults", *_only(faults=modules))
        for number, modules in enumerate([*FAULTS, FAULTS_REST], start=1)
    },
    "sqlite": [
        *("--database=sqlite", "-m", "not browser"),
        *_only(SQLITE, FAULTS_ON_SQLITE),
        *(f"--deselect=tests/faults/test_company.py::test_{name}" for name in NOT_ON_SQLITE),
    ],
}
"""Pytest's options of each. All run on PostgreSQL but the last."""
NO_TESTS = 5
"""pytest's status where none of the tests that are asked for is in a suite."""
SUMMARY = "short test summary info"
FAILURE = re.compile(r"(\x1b\[[\d;]*m)*(FAILED|ERROR)\b")
LAST_LINES = 20


def main(arguments: Sequence[str]) -> int:
    # To pytest its output is not a terminal; ours may be one.
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    # Within 80 columns it would cut off why a test failed.
    os.environ["COLUMNS"] = str(shutil.get_terminal_size((160, 24)).columns)
    pytest = [sys.executable, "-m", "pytest", *colour]
    return run({name: [*pytest, *options, *arguments] for name, options in SUITES.items()})


def run(commands: Mapping[str, Sequence[str]]) -> int:
    """Run them to their ends; returns 0 where all ended well, else the status of one that did not.

    What failed is said once more at the end.
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
    said: dict[str, list[str]] = {name: [] for name in processes}
    threads = [
        threading.Thread(target=_relay, args=(f"{name:{width}} | ", process, said[name]))
        for name, process in processes.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {name: process.wait() for name, process in processes.items()}
    if set(statuses.values()) == {NO_TESTS}:
        return NO_TESTS
    failed = {name: status for name, status in statuses.items() if status not in (0, NO_TESTS)}
    for name, status in failed.items():
        sys.stdout.write(f"\n{name} failed with status {status}:\n")
        sys.stdout.writelines(f"{line}\n" for line in _summary(said[name]))
    return next(iter(failed.values()), 0)


def _summary(lines: Sequence[str]) -> list[str]:
    """What pytest says of failed tests, or the last lines of one that came to no summary."""
    headings = (number for number, line in enumerate(lines) if SUMMARY in line)
    after = lines[next(headings, len(lines)) :]
    return [line for line in after if FAILURE.match(line)] or list(lines[-LAST_LINES:])


def _relay(prefix: str, process: subprocess.Popen[bytes], said: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:  # closed also where our output is not read any more
        for line in lines:
            said.append(line.decode(errors="replace").rstrip())
            # One write a line: those of two threads do not mix.
            sys.stdout.buffer.write(prefix.encode() + line.rstrip(b"\n") + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

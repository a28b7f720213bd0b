"""The command line: prints a table, and exits with 1 if a bound is missed."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report, results
from benchmarks.report import Section
from benchmarks.site import NothingToMeasure, Site

FAILED = 1


def main() -> int:
    options = _options()
    started_at = time.monotonic()
    sections: list[Section] = []
    _say(report.heading())
    try:
        for section in _measured(options):
            sections.append(section)
            _say(section.as_text())
    except NothingToMeasure as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    seconds = time.monotonic() - started_at
    if options.json:
        found = report.as_json(sections, quick=options.quick, seconds=seconds)
        options.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return _conclude(sections, seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure speed and memory against their bounds; exits with 1 if one is missed.",
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help="its name in RESULTS.md; all by default"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument(
        "--write-results",
        action="store_true",
        help="also write the sections that are measured into RESULTS.md, and keep the others there",
    )
    parser.add_argument(
        "--sharps-picture",
        type=Path,
        metavar="FILE",
        help="test/fixtures/2569067123_aca715a2ee_o.jpg of sharp's repository, to resize it, too",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="measure less, in a minute or two; bounds that need more are not judged",
    )
    options = parser.parse_args()
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"the folder of {options.json} does not exist")  # now, not after minutes
    if options.sharps_picture and not options.sharps_picture.is_file():
        parser.error(f"there is no file {options.sharps_picture}")
    if options.quick and options.write_results:
        parser.error("RESULTS.md is of whole measurements, not of --quick ones")
    return options


def _measured(options: argparse.Namespace) -> Iterator[Section]:
    with tempfile.TemporaryDirectory(prefix="thumbnails-benchmarks-") as folder:
        home = Path(folder)
        here = Site(home / "here")
        here.adopt()
        # It imports models, which requires Django to be set up.
        from benchmarks import suite  # noqa: PLC0415

        if unknown := set(options.sections) - suite.SECTIONS.keys():
            raise NothingToMeasure(
                f"There is no section {', '.join(sorted(unknown))}; "
                f"there are {', '.join(suite.SECTIONS)}."
            )
        extent = suite.QUICK if options.quick else suite.WHOLE
        workplace = suite.Workplace(
            home=home, here=here, extent=extent, sharps_picture=options.sharps_picture
        )
        for name, section in suite.measure(workplace, options.sections):
            if options.write_results:
                results.record(results.PATH, name, section, list(suite.SECTIONS))
            yield section


def _conclude(sections: list[Section], seconds: float) -> int:
    bounded = [row for section in sections for row in section.rows if row.bound is not None]
    missed = [row.key for row in bounded if row.met is False]
    unjudged = [row.key for row in bounded if row.met is None]
    met = len(bounded) - len(missed) - len(unjudged)
    _say(f"{met} of {len(bounded)} bounds are met. Measured in {seconds:.0f} s.")
    if missed:
        _say(f"Missed: {', '.join(missed)}")
    if unjudged:
        _say(f"Not judged: {', '.join(unjudged)}")
    return FAILED if missed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

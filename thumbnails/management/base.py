"""Shared by the commands: exit status, options that select images, and progress."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from django.core.checks import Tags
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    OutputWrapper,
    SystemCheckError,
)
from django.template.defaultfilters import filesizeformat, pluralize
from tqdm import tqdm

from thumbnails import conf
from thumbnails.exceptions import Interrupted, NoSpace, NotFinished, UsageError
from thumbnails.models import ImageAsset, Outcome, Run
from thumbnails.models.runs import Progress
from thumbnails.storage import thumbnails as cache
from thumbnails.upkeep.reports.formatting import done_of_total, duration_between
from thumbnails.upkeep.runs import execute
from thumbnails.upkeep.runs.arrivals import Arrivals
from thumbnails.upkeep.runs.estimate import Estimate
from thumbnails.upkeep.runs.planning import Plan
from thumbnails.upkeep.runs.stopping import Stop
from thumbnails.upkeep.selection.conditions import CONDITIONS, Selection

T = TypeVar("T")

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
"""Exit status; 130 is what shells give a command that Ctrl-C ended."""

WATCH_SECONDS = 0.5
PLAIN_SECONDS = 5.0
"""How often progress is written as plain lines, where there is no terminal."""

EXAMPLES = 5


class ThumbnailCommand(BaseCommand):
    """Reports wrong usage and wrong settings in one sentence, with exit status 2.

    Its exit status is that of its work, also where its output is not read to the end.
    """

    # Not those of URLs and the admin, whose modules take as long to import as all others.
    requires_system_checks = (Tags.models, Tags.database, "thumbnails")
    uses_cache = False
    """Whether it reads or writes thumbnails, for which the cache's folder must be safe."""

    def run_from_argv(self, argv: Sequence[str]) -> None:
        with _outputs_that_may_close() as (output, errors):
            self.stdout, self.stderr = OutputWrapper(output), OutputWrapper(errors)
            self.stderr.style_func = self.style.ERROR
            try:
                super().run_from_argv(list(argv))
            except CommandError as error:  # what the parser refuses
                if "--traceback" in argv:
                    raise
                self.stderr.write(str(error).removeprefix("Error: "))
                self.stderr.write(f"Its options: {Path(argv[0]).name} {argv[1]} --help")
                sys.exit(WRONG_USAGE)
            except KeyboardInterrupt:
                self.stderr.write("Interrupted.")
                sys.exit(INTERRUPTED)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Otherwise the parser prints all of its usage, and only then what is wrong.
        self._called_from_command_line = False
        return super().create_parser(prog_name, subcommand, **kwargs)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            if self.uses_cache:
                cache.check_folder()
            return super().execute(*args, **options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=WRONG_USAGE) from error
        except SystemCheckError as error:
            error.returncode = WRONG_USAGE
            raise
        except UsageError as error:
            hint = " To start anyway: --ignore-space." if isinstance(error, NoSpace) else ""
            # It may contain a file's name with control characters.
            raise CommandError(printable(f"{error}{hint}"), returncode=WRONG_USAGE) from error

    def print_json(self, value: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(value, indent=2))

    def render(self, arrivals: Arrivals) -> None:
        """Have the workers render what was imported, with THUMBNAIL_EAGER."""
        if (run := arrivals.render()) is not None:
            self.stderr.write(f"{run} renders the new images.")

    def report(self, run: Run, progress: Progress, *, as_json: bool) -> None:
        """Report how a run ended. Raises CommandError (1) if it is paused or some of it failed."""
        if as_json:
            self.print_json(run_as_json(run, progress))
        else:
            self.stdout.write(f"{run} is {run.state}: {counts(progress)}.")
            self.write_failures(progress)
        if run.state == Run.State.PAUSED:
            raise CommandError(run.pause_reason, returncode=FAILED)
        if progress.failed:
            raise CommandError(f"{progress.failed:,} failed.", returncode=FAILED)

    def write_failures(self, progress: Progress) -> None:
        for reason, ids in sorted(progress.failures.items()):
            self.stdout.write(f"{reason}: {len(ids):,}")
            for asset in ImageAsset.objects.filter(pk__in=ids[:EXAMPLES]):
                self.stdout.write(f"  {asset.pk} {asset}: {asset.thumbnail_error_detail}")
            if len(ids) > EXAMPLES:
                self.stdout.write("  …")


class _Output:
    """A stream of text that discards what is written to it once its reader has gone, as `| head`
    does: only the output ends then, and not the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        """From now on, and what is buffered: Python flushes that when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def _outputs_that_may_close() -> Iterator[tuple[TextIO, TextIO]]:
    """Yields standard output and standard error, as they are inside."""
    output, errors = (cast(TextIO, _Output(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            yield output, errors
        finally:
            output.flush()
            errors.flush()


def counts(progress: Progress) -> str:
    """Returns the number of each outcome that occurred: `480 rendered, 20 fresh`."""
    found = progress.outcomes.items()
    return ", ".join(f"{number:,} {word}" for word, number in found if number) or "nothing done"


def printable(text: str) -> str:
    """Returns the text as one line, with control and invisible characters escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def run_as_json(run: Run, progress: Progress) -> dict[str, Any]:
    finished = run.finished_at
    return {
        "run": run.pk,
        "kind": run.kind,
        "state": run.state,
        "total": progress.total,
        **progress.outcomes,
        "failures": progress.failures,
        "pauseReason": run.pause_reason,
        "createdAt": run.created_at.isoformat(),
        "finishedAt": finished.isoformat() if finished else None,
    }


class RunCommand(ThumbnailCommand):
    """A command that works on a run itself and shows its progress."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.stop = Stop()
        with self.stop.on_signals():
            try:
                return super().execute(*args, **options)
            except Interrupted as error:
                raise CommandError(str(error), returncode=INTERRUPTED) from error

    def work(self, run: Run, *, processes: int, as_json: bool) -> None:
        """Work on the run until it is done, and report. Ctrl-C pauses the run."""
        if (before := run.progress(with_ids=False)).done:
            self.stderr.write(f"Going on with {run}: {done_of_total(before)} are done.")
        try:
            with ProgressBar(run.total, unit="image", quiet=as_json) as bar:
                progress = execute.work(
                    run, processes=processes, stop=self.stop, on_progress=bar.show_run
                )
        except NotFinished as error:
            raise CommandError(f"{run} is paused. {error}", returncode=FAILED) from error
        except Interrupted as error:
            done = done_of_total(run.progress(with_ids=False))
            raise Interrupted(
                f"{error} {done} are done and stay done; the same command goes on with the rest."
            ) from error
        self.report(run, progress, as_json=as_json)

    def watch(self, run: Run, *, as_json: bool) -> None:
        """Show the progress of a run of the queue's workers until it ends, and report.

        Ctrl-C ends only the command.
        """
        with ProgressBar(run.total, unit="image", quiet=as_json) as bar:
            while run.state == Run.State.RUNNING:
                bar.show_run(run.progress(with_ids=False))
                if self.stop.wait(WATCH_SECONDS):
                    raise Interrupted(f"No longer watching; {run} goes on.")
                run.refresh_from_db()
        self.report(run, run.progress(), as_json=as_json)

    def nothing_to_do(self, why: str, *, as_json: bool) -> None:
        """Report that there is no run, and `why`."""
        if as_json:
            no_outcomes = {outcome.value: 0 for outcome in Outcome}
            self.print_json({"run": None, "total": 0, **no_outcomes})
        else:
            self.stdout.write(f"Nothing to do: {why}")

    def report_plan(self, verb: str, plan: Plan, *, as_json: bool) -> None:
        """Report what a run would do."""
        if as_json:
            self.print_json(
                {
                    "dryRun": True,
                    "total": plan.total,
                    "states": {state.value: number for state, number in plan.states.items()},
                    "bytes": plan.size_bytes,
                    **_seconds(plan.estimate),
                }
            )
            return
        if plan.total == 0:
            self.stdout.write("Nothing to do.")
            return
        what = f"the thumbnails of {plan.total:,} image{pluralize(plan.total)}"
        states = ", ".join(f"{n:,} {state.value}" for state, n in plan.states.items() if n)
        estimate = plan.estimate
        time = (
            "time not known, as no run of similar size was measured"
            if estimate is None
            else f"{duration_between(estimate.at_least, estimate.at_most)} by the last runs"
        )
        self.stdout.write(
            f"Would {verb} {what} ({states}): about {filesizeformat(plan.size_bytes)}, {time}."
        )


def _seconds(estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return dict.fromkeys(("seconds", "secondsAtLeast", "secondsAtMost"))
    return {
        "seconds": round(estimate.seconds, 1),
        "secondsAtLeast": round(estimate.at_least, 1),
        "secondsAtMost": round(estimate.at_most, 1),
    }


# --- selecting images ---------------------------------------------------------------------------


def add_selection(parser: CommandParser) -> None:
    """Add an option for each condition of a selection."""
    for name, condition in CONDITIONS.items():
        parser.add_argument(
            f"--{name}",
            type=checked(condition.parse),
            metavar=condition.example,
            help=condition.help,
        )


def selection_from(options: dict[str, Any]) -> Selection:
    values: dict[str, Any] = {}
    for name in CONDITIONS:
        values |= options.get(name.replace("-", "_")) or {}
    return Selection(**values)


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Returns an option's type that reports what `parse` refuses as wrong usage."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def rate(text: str) -> float:
    """Returns '50/s', '2.5/s' or '100/m' as images a second."""
    try:
        return conf.per_second(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1, like 0.5")
    return value


def whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return int(text)


# --- progress -----------------------------------------------------------------------------------


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """Count, rate, time left and failures: a bar on a terminal, otherwise lines of text.

    Written to standard error, so that standard output has only the command's report.
    """

    PLAIN = "{n_fmt} of {total_fmt} ({percentage:.0f} %), {rate_fmt}, {remaining} left{postfix}"
    PLAIN_WITHOUT_TOTAL = "{n_fmt}, {rate_fmt}{postfix}"

    def __init__(self, total: int | None, *, unit: str, quiet: bool = False) -> None:
        self.total = total
        self.unit = unit
        self.started_at = time.monotonic()
        self.plain_at = self.started_at + PLAIN_SECONDS
        self.is_plain = not quiet and not sys.stderr.isatty()
        tqdm.monitor_interval = 0  # a thread of its own is unsafe in a process that forks
        self.bar = tqdm(
            total=total, unit=unit, disable=quiet or self.is_plain, dynamic_ncols=True, leave=False
        )

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, done: int, failed: int = 0) -> None:
        """Update to `done` items, of which `failed` have failed."""
        postfix = f"{failed:,} failed" if failed else ""
        self.bar.set_postfix_str(postfix, refresh=False)
        self.bar.update(done - self.bar.n)
        self.bar.refresh()
        now = time.monotonic()
        if self.is_plain and now >= self.plain_at:
            self.plain_at = now + PLAIN_SECONDS
            line = tqdm.format_meter(
                done,
                self.total or 0,
                now - self.started_at,
                unit=self.unit,
                postfix=postfix,
                bar_format=self.PLAIN if self.total else self.PLAIN_WITHOUT_TOTAL,
            )
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def show_run(self, progress: Progress) -> None:
        self.show(progress.done, progress.failed)

"""Starts a run over as many images as its argument says and tells what that took."""

import json
import os
import resource
import sys
import time

import django
from django.core.management import call_command
from django.db import connection

KIB = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS


def main(count: int) -> None:
    django.setup()
    # In a process of its own, so that its memory is not in the peak of this one.
    filler = os.fork()
    if filler == 0:
        _fill(count)
        os._exit(0)
    if os.waitpid(filler, 0)[1] != 0:
        raise SystemExit("The images could not be made.")
    # Models cannot be imported before Django is set up.
    from thumbnails.models import ImageAsset, Run  # noqa: PLC0415
    from thumbnails.upkeep import runs  # noqa: PLC0415

    ImageAsset.objects.exists()  # connects
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_at = time.perf_counter()
    run = runs.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.COMMAND,
        scope_text="all",
        attended=True,
        ignore_space=True,
    )
    seconds = time.perf_counter() - started_at
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if run.total != count:
        raise SystemExit(f"The run has {run.total} images instead of {count}.")
    sys.stdout.write(json.dumps({"seconds": seconds, "grownBytes": grown * KIB}))


def _fill(count: int) -> None:
    """Make the first image as the site does, and the others like it (PostgreSQL)."""
    call_command("migrate", verbosity=0)
    from thumbnails.models import ImageAsset  # noqa: PLC0415

    ImageAsset.objects.create(original="1.jpg", source_version="1-1")
    columns = [
        field.column
        for field in ImageAsset._meta.concrete_fields
        if field.column not in ("id", "original")
    ]
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO thumbnails_imageasset (original, {names}) "  # noqa: S608  no user's text
            f"SELECT number || '.jpg', {names} FROM thumbnails_imageasset, "
            "generate_series(2, %s) AS number",
            [count],
        )
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Starts a run over as many images as its argument says and tells what that took."""

import json
import resource
import sys
import time

import django
from django.core.management import call_command

KIB = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS
BATCH = 10_000


def main(count: int) -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    # Models cannot be imported before Django is set up.
    from thumbnails.models import ImageAsset, Run  # noqa: PLC0415
    from thumbnails.upkeep import runs  # noqa: PLC0415

    for first in range(0, count, BATCH):
        ImageAsset.objects.bulk_create(
            ImageAsset(original=f"{number}.jpg", source_version="1-1")
            for number in range(first, min(first + BATCH, count))
        )
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


if __name__ == "__main__":
    main(int(sys.argv[1]))

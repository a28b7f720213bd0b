"""Measures with a million images, in a separate process with its own PostgreSQL and queue.

Prints JSON. The images are rows without files.
"""

import json
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import django
from django.core.management import call_command
from django.db import connection

KIB = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS
FEW = 1_000
ROWS_AT_ONCE = 100_000
IDS_IN_BODY = 10_000
ROUNDS = 9

# Columns that are not listed are copied from the first image, which the site made.
COLUMNS = {
    "original": "number || '.jpg'",
    "created_at": "timestamptz '2021-01-01' + number * interval '150 seconds'",
    "orientation": "CASE WHEN number %% 10 = 0 THEN number / 10 %% 8 + 1 ELSE 1 END",
    "format": "CASE WHEN number %% 50 = 0 THEN 'PNG' ELSE 'JPEG' END",
    "mode": "CASE WHEN number %% 500 = 0 THEN 'CMYK' ELSE 'RGB' END",
    # One in a hundred is large, and of the others the size is not known.
    "width": "CASE WHEN number %% 100 = 1 THEN 9000 END",
    "height": "CASE WHEN number %% 100 = 1 THEN 6000 END",
    "facts_version": "1",
    # Of 600 cameras the first ones made most of seven tenths.
    "camera": (
        "CASE WHEN number %% 10 < 7 "
        "THEN 'Camera ' || floor(power(number / 10 %% 1000 / 1000.0, 3) * 600)::int ELSE '' END"
    ),
    "software": "CASE WHEN number %% 10 < 6 THEN 'Software ' || number %% 1000 ELSE '' END",
    "color_profile": "CASE WHEN number %% 10 < 4 THEN 'sRGB' ELSE '' END",
    "compression": "CASE WHEN number %% 7 = 0 THEN 'progressive' ELSE 'baseline' END",
    "bit_depth": "CASE WHEN number %% 200 = 0 THEN 16 ELSE 8 END",
    "has_alpha": "number %% 50 = 0",
    "frames": "CASE WHEN number %% 500 = 0 THEN 7 ELSE 1 END",
    # One in ten thousand has none; the older third was made by another recipe.
    "thumbnail_path": (
        "CASE WHEN number %% 10000 = 0 THEN '' "
        "ELSE left(md5(number::text), 2) || '/' || number || '.jpg' END"
    ),
    "thumbnail_bytes": "CASE WHEN number %% 10000 <> 0 THEN 9000 + number %% 5000 END",
    "thumbnail_generated_at": (
        "CASE WHEN number %% 10000 <> 0 "
        "THEN timestamptz '2024-01-01' + number * interval '60 seconds' END"
    ),
    "thumbnail_recipe": (
        "CASE WHEN number %% 10000 = 0 THEN '' "
        "WHEN number <= %(old)s THEN 'old' ELSE %(recipe)s END"
    ),
    "thumbnail_source": "CASE WHEN number %% 10000 = 0 THEN '' ELSE '1-1' END",
    # And one in twenty thousand failed, with this recipe and this original.
    "thumbnail_error": "CASE WHEN number %% 20000 = 0 THEN 'unreadable' ELSE '' END",
    "thumbnail_error_recipe": "CASE WHEN number %% 20000 = 0 THEN %(recipe)s ELSE '' END",
    "thumbnail_error_source": "CASE WHEN number %% 20000 = 0 THEN '1-1' ELSE '' END",
}
SESSIONS = {
    1: ("half", "id %% 2 = 0"),
    2: ("oldest", "id <= %(count)s / 100"),
    3: ("ten", "id <= 10"),
    4: ("twice", "id %% 3 = 0"),
    5: ("twice", "id %% 7 = 0"),
}
"""Names and conditions on images by id; two have the same name and share images."""
PAGES = {
    "first": "",
    "stale": "state=stale",
    "missing": "state=missing",
    "failed": "state=failed",
    "fresh": "state=fresh",
    "a day": "fromDate=2023-03-01&toDate=2023-03-01",
    "session of half": "sessionId=1",
    "session of half, a day": "sessionId=1&fromDate=2023-03-01&toDate=2023-03-01",
    "session of the oldest": "sessionId=2",
    "session of ten": "sessionId=3",
    "one of two sessions of a name": "sessionId=4",
}
"""Queries of the API's list of images, each also measured far from its beginning."""
FILTERS = {
    "all": "",
    "stale": "state=stale",
    "fresh": "state=fresh",
    "failed": "state=failed",
    "turned": "orientation=2-8",
    "turned and stale": "orientation=2-8&state=stale",
    "PNG, turned and stale": "format=PNG&orientation=2-8&state=stale",
    "CMYK": "mode=CMYK",
    "a frequent camera": "camera=Camera+0",
    "a rare camera": "camera=Camera+500",
    "no camera": "camera=none",
    "an unknown camera": "camera=x",
    "a profile": "profile=sRGB",
    "progressive": "compression=progressive",
    "16 bits": "bit-depth=16",
    "transparent": "alpha=yes",
    "animated": "frames=2-",
    "shown in part": "note=truncated",
    "an older recipe": "recipe=old",
    "small": "megapixels=0-1",
    "a year": "from-date=2022-01-01&to-date=2022-12-31",
    "made before a day": "generated-before=2024-03-01",
    "session of half": "session=half",
    "session of the oldest": "session=oldest",
    "session of ten": "session=ten",
    "two sessions of a name": "session=twice",
    "one of two sessions of a name": "session-id=4",
    "session of half, far down": "session=half&p={deep_page}",
    "far down": "p={deep_page}",
}
"""Queries of the admin's list."""
ALIKE = {
    "unusual in all": (1000, ""),
    "turned": (990, ""),
    "with a camera": (988, ""),
    "large": (999, ""),
    "large and upright": (999, "chosen/?chosen=1&megapixels=50-&orientation=1"),
    "ordinary": (991, ""),
}
"""Images to find others like, by how far their id is below the last thousand, and what is asked."""


def main(count: int) -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    _in_another_process(lambda: _fill(0, FEW))
    few_ms = _in_another_process(lambda: _list_ms(_client(), ""))
    _in_another_process(lambda: _fill(FEW, count))
    _in_another_process(lambda: _fill_sessions(count))
    # Before the client, whose imports would count as memory of the start.
    found: dict[str, Any] = _start(count)
    _in_another_process(_end_run)
    found["csv_bytes"] = _in_another_process(_csv_bytes)
    found["csv_seconds"] = _in_another_process(_csv_seconds)
    client = _client()
    found["few_ms"] = few_ms
    found["pages_ms"] = {
        f"{name}{', deep' if cursor else ''}": _list_ms(client, f"{query}&{cursor}")
        for name, query in PAGES.items()
        for cursor in ("", _cursor_at(count // 5))
    }
    found["ids_seconds"] = _ids_seconds(client, count)
    found["counts_ms"] = _counts_ms()
    found["changelist_ms"] = _changelist_ms(deep_page=count // 1000)
    found["plan_seconds"], found["click_seconds"] = _click_seconds()
    found["overview_ms"] = _admin_ms("/admin/thumbnails/cache/")
    found["alike_ms"] = {
        name: _admin_ms(f"/admin/thumbnails/imageasset/{count - count % 1000 - below}/alike/{more}")
        for name, (below, more) in ALIKE.items()
    }
    report = f"/admin/thumbnails/run/{_first_run().pk}/report/"
    found["report_ms"] = max(_admin_ms(report), _admin_ms(f"{report}?outcome=fresh"))
    found["compare_seconds"] = _admin_ms(f"{report}?now=1", rounds=1) / 1000
    sys.stdout.write(json.dumps(found))


def _in_another_process(act: Callable[[], float | None]) -> float:
    """Returns what `act` does, in a fork so that its memory is not in this process's peak."""
    connection.close()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(act() or 0.0).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("The images could not be made, or not be listed.")
    return float(json.loads(result))


def _fill(first: int, last: int) -> None:
    """Insert the images after `first` up to `last` (PostgreSQL)."""
    # Models cannot be imported before Django is set up.
    from thumbnails.models import ImageAsset, recipe_in_force  # noqa: PLC0415

    if first == 0:
        ImageAsset.objects.create(original="1.jpg", source_version="1-1")
        first = 1
    columns: dict[str, str] = {
        str(field.column): COLUMNS.get(str(field.column), f'"{field.column}"')
        for field in ImageAsset._meta.concrete_fields
        if field.column != "id"
    }
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(columns.values())
    with connection.cursor() as cursor:
        # In parts, since a query may take half a minute.
        for begin in range(first, last, ROWS_AT_ONCE):
            cursor.execute(
                f"INSERT INTO thumbnails_imageasset ({names}) "  # noqa: S608  no user's text
                f"SELECT {values} FROM (SELECT * FROM thumbnails_imageasset WHERE id = 1) AS one, "
                "generate_series(%(first)s, %(last)s) AS number",
                {
                    "first": begin + 1,
                    "last": min(begin + ROWS_AT_ONCE, last),
                    "old": last // 3,
                    "recipe": recipe_in_force().digest,
                },
            )
        cursor.execute("VACUUM ANALYZE thumbnails_imageasset")


def _fill_sessions(count: int) -> None:
    from thumbnails.models import TrainingSession  # noqa: PLC0415

    with connection.cursor() as cursor:
        for session_id, (name, condition) in SESSIONS.items():
            TrainingSession.objects.create(pk=session_id, name=name)
            for begin in range(0, count, ROWS_AT_ONCE):
                cursor.execute(
                    "INSERT INTO thumbnails_sessionimage (session_id, image_id, created_at) "  # noqa: S608  no user's text
                    "SELECT %(session)s, id, created_at FROM thumbnails_imageasset "
                    f"WHERE id > %(begin)s AND id <= %(end)s AND {condition}",
                    {
                        "session": session_id,
                        "begin": begin,
                        "end": begin + ROWS_AT_ONCE,
                        "count": count,
                    },
                )
        cursor.execute("VACUUM ANALYZE thumbnails_sessionimage")


def _start(count: int) -> dict[str, float]:
    from thumbnails.models import ImageAsset, Run  # noqa: PLC0415
    from thumbnails.upkeep.runs import starting  # noqa: PLC0415

    ImageAsset.objects.exists()  # connects
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_at = time.perf_counter()
    run = starting.start(
        Run.Kind.REGENERATE,
        ImageAsset.objects.all(),
        origin=Run.Origin.COMMAND,
        scope_text="all",
        leased=True,
        ignore_space=True,
    )
    seconds = time.perf_counter() - started_at
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if run.total != count:
        raise SystemExit(f"The run has {run.total} images instead of {count}.")
    return {"start_seconds": seconds, "start_bytes": grown * KIB}


def _first_run() -> Any:
    from thumbnails.models import Run  # noqa: PLC0415

    return Run.objects.earliest("pk")


def _end_run() -> None:
    """Let the run be done: each chunk has rendered all but one image, which was fresh."""
    from thumbnails.models import Outcome  # noqa: PLC0415
    from thumbnails.models.outcomes import pack  # noqa: PLC0415
    from thumbnails.models.results import Result  # noqa: PLC0415

    run = _first_run()
    for chunk in run.chunks.iterator(chunk_size=100):
        results = [
            Result(
                asset_id=asset_id,
                outcome=Outcome.RENDERED if place else Outcome.FRESH,
                before="0123456789abcdef",
                after=f"{asset_id:016x}",
            )
            for place, asset_id in enumerate(chunk.asset_ids)
        ]
        chunk.outcomes = pack(results)
        chunk.position = len(results)
        chunk.rendered, chunk.fresh = len(results) - 1, 1
        chunk.finished_at = run.created_at
        chunk.save()
    run.state = run.State.DONE
    run.save()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE thumbnails_chunk")


def _csv_bytes() -> float:
    """The memory that the second half of a run's CSV takes beside that of the first."""
    parts = _csv()
    for _, _part in zip(range(_first_run().total // 1_000), parts, strict=False):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _part in parts:
        pass
    return float((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB)


def _csv_seconds() -> float:
    started_at = time.perf_counter()
    for _part in _csv():
        pass
    return time.perf_counter() - started_at


def _csv() -> Any:
    from thumbnails.upkeep.reports import run_report  # noqa: PLC0415

    return run_report.as_csv(run_report.rows(_first_run()))


def _client() -> Any:
    """A client with an API token."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    from thumbnails.models import ApiToken  # noqa: PLC0415

    user, _ = User.objects.get_or_create(username="staff", is_staff=True, is_superuser=True)
    _, secret = ApiToken.objects.issue(user, "benchmark")
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    with warnings.catch_warnings():
        # Static files are not collected here; WhiteNoise finds those of the apps.
        warnings.filterwarnings("ignore", "No directory at", UserWarning)
        client.handler.load_middleware()
    return client


def _list_ms(client: Any, query: str) -> float:
    """The median of some requests for one page of images."""
    times = []
    for _ in range(ROUNDS):
        started_at = time.perf_counter()
        response = client.get(f"/api/v1/images?{query}")
        times.append(time.perf_counter() - started_at)
        if response.status_code != HTTPStatus.OK:
            raise SystemExit(f"The list answers {response.status_code}: {response.content!r}")
    return statistics.median(times) * 1000


def _cursor_at(asset_id: int) -> str:
    from thumbnails.models import ImageAsset  # noqa: PLC0415

    created_at = ImageAsset.objects.get(pk=asset_id).created_at
    return f"cursor={round(created_at.timestamp() * 1_000_000)}-{asset_id}"


def _ids_seconds(client: Any, count: int) -> float:
    """The time of a request that starts a run over IDS_IN_BODY ids."""
    ids = list(range(1, count + 1, max(1, count // IDS_IN_BODY)))[:IDS_IN_BODY]
    started_at = time.perf_counter()
    response = client.post(
        "/api/v1/admin/thumbnails/regenerate",
        {"force": True, "assetIds": ids},
        content_type="application/json",
    )
    seconds = time.perf_counter() - started_at
    if response.status_code != HTTPStatus.ACCEPTED or response.json()["total"] != len(ids):
        raise SystemExit(f"The run answers {response.status_code}: {response.content!r}")
    return seconds


def _changelist_ms(*, deep_page: int) -> dict[str, float]:
    """The median of some requests for the admin's list of images, by filter."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(User.objects.get(username="staff"))
    found = {}
    for name, pattern in FILTERS.items():
        query = pattern.format(deep_page=deep_page)
        times = []
        for _ in range(5):
            started_at = time.perf_counter()
            response = client.get(f"/admin/thumbnails/imageasset/?{query}")
            times.append(time.perf_counter() - started_at)
            if response.status_code != HTTPStatus.OK:
                raise SystemExit(f"The admin's list answers {response.status_code} to {query}")
        found[name] = statistics.median(times) * 1000
    return found


def _click_seconds() -> tuple[float, float]:
    """The times of the plan of a run over all images, and of its start button."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(User.objects.get(username="staff"))
    address = "/admin/thumbnails/imageasset/plan/regenerate/?force=1"
    started_at = time.perf_counter()
    plan = client.get(address)
    planned_at = time.perf_counter()
    started = client.post(
        address, {"once": "benchmark", "start": "yes", "ignore_space": "on", "note": "all"}
    )
    clicked_at = time.perf_counter()
    if plan.status_code != HTTPStatus.OK or "/run/" not in started.headers.get("Location", ""):
        raise SystemExit(f"The plan answers {plan.status_code}, then {started.status_code}.")
    return planned_at - started_at, clicked_at - planned_at


def _counts_ms() -> dict[str, float]:
    """The time that a worker takes for each cached count."""
    from thumbnails.models import CachedCount  # noqa: PLC0415
    from thumbnails.upkeep.reports import counts  # noqa: PLC0415

    while counts.count_due():
        pass
    return {cached.name: cached.took_seconds * 1000 for cached in CachedCount.objects.all()}


def _admin_ms(address: str, *, rounds: int = ROUNDS) -> float:
    """The median of some requests for a page of the admin."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(User.objects.get(username="staff"))
    times = []
    for _ in range(rounds):
        started_at = time.perf_counter()
        response = client.get(address)
        times.append(time.perf_counter() - started_at)
        if response.status_code != HTTPStatus.OK:
            raise SystemExit(f"{address} answers {response.status_code}.")
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Operations on runs: start, show, cancel, resume and retry."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated

from django.http import Http404, HttpResponse
from django.urls import reverse
from ninja import Header, Query, Router
from ninja.responses import Status

from thumbnails.api.auth import (
    PURGE,
    REGENERATE,
    VIEW_IMAGES,
    VIEW_RUNS,
    ApiRequest,
    permitted,
    staff_with,
)
from thumbnails.api.middleware import only_in_query
from thumbnails.api.openapi import answers
from thumbnails.api.schemas import (
    IdInPath,
    In,
    NowOut,
    NumberInUrl,
    PageSize,
    PlaceInRun,
    PlanOut,
    PurgeIn,
    RegenerateIn,
    ReportedImage,
    ReportedOutcome,
    ReportPage,
    RetryIn,
    RunOut,
    RunPage,
    RunState,
    SessionIn,
    StatisticsOut,
)
from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import Run
from thumbnails.models.runs import progress_of
from thumbnails.upkeep.reports import run_report
from thumbnails.upkeep.reports.counts import statistics
from thumbnails.upkeep.runs import control, planning, starting
from thumbnails.upkeep.runs.starting import RequestKey
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

router = Router(tags=["runs"], by_alias=True)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[ -~]{1,255}$",
        description="The same key again returns the run of the first request.",
    ),
]
# The bodies of requests without one.
NO_FORCE, ALL_NOT_FRESH, ALL_FAILED = SessionIn(), RegenerateIn(), RetryIn()

Answer = Status[RunOut | PlanOut]
STARTED = answers({202: RunOut}, also=(404, 409))
STARTED_OR_PLANNED = answers({200: PlanOut, 202: RunOut}, also=(409,))


# --- start ----------------------------------------------------------------------------------------


@router.post("/training/sessions/{id}/thumbnails", auth=staff_with(REGENERATE), response=STARTED)
def regenerate_session(
    request: ApiRequest,
    response: HttpResponse,
    session_id: IdInPath,
    body: SessionIn = NO_FORCE,
    key: Key = None,
) -> Answer:
    """Regenerate the thumbnails of a session's images that are not fresh, or all by `force`."""
    try:
        selection = Selection(**conditions.fields_of_session(session_id))
    except UsageError as error:
        raise Http404(str(error)) from error
    return _start(request, response, key, body, Run.Kind.REGENERATE, selection, force=body.force)


@router.post(
    "/admin/thumbnails/regenerate", auth=staff_with(REGENERATE), response=STARTED_OR_PLANNED
)
def regenerate(
    request: ApiRequest,
    response: HttpResponse,
    body: RegenerateIn = ALL_NOT_FRESH,
    key: Key = None,
) -> Answer:
    """Regenerate the selected images that are not fresh, or all of them by `force`."""
    selection = Selection(
        ids=_ids(body.asset_ids),
        from_date=body.from_date,
        to_date=body.to_date,
        states=tuple(body.states) if body.states else None,
        orientations=tuple(body.orientations) if body.orientations else None,
        camera=body.camera,
        software=body.software,
        color_profile=body.color_profile,
        compressions=tuple(body.compressions) if body.compressions else None,
        bit_depths=tuple(body.bit_depths) if body.bit_depths else None,
        has_alpha=body.has_alpha,
        frames=conditions.frame_range(body.min_frames, body.max_frames),
        notes=tuple(body.notes) if body.notes else None,
        **conditions.fields_of_session(body.session_id),
    )
    if body.dry_run:
        plan = planning.plan(
            Run.Kind.REGENERATE,
            selection.assets(),
            force=body.force,
            look_at_files_up_to=starting.LOOKED_AT,
        )
        return Status(HTTPStatus.OK, PlanOut.of(plan))
    return _start(request, response, key, body, Run.Kind.REGENERATE, selection, force=body.force)


@router.post("/admin/thumbnails/purge", auth=staff_with(PURGE), response=STARTED_OR_PLANNED)
def purge(request: ApiRequest, response: HttpResponse, body: PurgeIn, key: Key = None) -> Answer:
    """Delete thumbnails from the cache; they are rendered again on their next request."""
    selection = Selection(
        ids=_ids(body.asset_ids),
        shard=body.shard,
        older_than_days=body.older_than_days,
        **conditions.fields_of_session(body.session_id),
    )
    selection.require_all_said(body.all)
    if body.dry_run:
        return Status(HTTPStatus.OK, PlanOut.of(planning.plan(Run.Kind.PURGE, selection.assets())))
    return _start(request, response, key, body, Run.Kind.PURGE, selection)


# --- show -----------------------------------------------------------------------------------------


@router.get(
    "/admin/thumbnails/runs",
    url_name="runs",
    auth=staff_with(VIEW_RUNS, REGENERATE, PURGE),
    response=answers({200: RunPage}),
)
def list_runs(
    request: ApiRequest,
    state: Annotated[list[RunState] | None, Query()] = None,
    cursor: NumberInUrl | None = None,
    limit: PageSize = 50,
) -> RunPage:
    """The runs, the newest first. `state` may be given more than once."""
    only_in_query(request, "state", "cursor", "limit")
    found = Run.objects.select_related("started_by").order_by("-pk")
    if state:
        found = found.filter(state__in=state)
    if cursor is not None:
        found = found.filter(pk__lt=cursor)
    page = list(found[: limit + 1])
    shown = page[:limit]
    progress = progress_of(shown)
    return RunPage(
        runs=[RunOut.of(run, progress[run.pk]) for run in shown],
        next_cursor=shown[-1].pk if len(page) > limit else None,
    )


@router.get(
    "/admin/thumbnails/runs/{id}",
    url_name="run",
    auth=staff_with(VIEW_RUNS, REGENERATE, PURGE),
    response=answers({200: RunOut}, also=(404,)),
)
def show_run(request: ApiRequest, run_id: IdInPath) -> RunOut:
    """A run and its progress."""
    run = _run(run_id)
    return RunOut.of(run, run.progress())


@router.get(
    "/admin/thumbnails/runs/{id}/report",
    url_name="report",
    auth=staff_with(VIEW_RUNS, REGENERATE, PURGE),
    response=answers({200: ReportPage}, also=(404,)),
)
def report(
    request: ApiRequest,
    run_id: IdInPath,
    outcome: ReportedOutcome | None = None,
    reason: Reason | None = None,
    now: bool = False,
    cursor: PlaceInRun | None = None,
    limit: PageSize = 100,
) -> ReportPage:
    """What became of the run's images. With `now=true` also how things stand with all of them,
    which takes time in proportion to their number."""
    only_in_query(request, "outcome", "reason", "now", "cursor", "limit")
    run = _run(run_id)
    found = run_report.page(
        run,
        size=limit,
        after=run_report.position_of(cursor or ""),
        wanted=run_report.Filter(outcome=outcome or "", reason=reason),
    )
    compared = NowOut(**run_report.as_numbers(run_report.compare(run))) if now else None
    return ReportPage.model_construct(
        images=[ReportedImage.of(row) for row in found.rows],
        now=compared,
        next_cursor=str(found.next_after) if found.next_after else None,
    )


@router.get(
    "/admin/thumbnails/statistics",
    auth=staff_with(VIEW_IMAGES),
    response=answers({200: StatisticsOut}),
)
def show_statistics(request: ApiRequest) -> StatisticsOut:
    """Counts of the site's assets and thumbnails."""
    return StatisticsOut.of(statistics())


# --- cancel, resume, retry ------------------------------------------------------------------------


@router.post(
    "/admin/thumbnails/runs/{id}/cancel", auth=staff_with(REGENERATE, PURGE), response=STARTED
)
def cancel(
    request: ApiRequest, response: HttpResponse, run_id: IdInPath, key: Key = None
) -> Answer:
    """Stop the run; what is done stays done."""
    return _act(request, response, key, run_id, partial(control.cancel, by=request.user))


@router.post(
    "/admin/thumbnails/runs/{id}/resume", auth=staff_with(REGENERATE, PURGE), response=STARTED
)
def resume(
    request: ApiRequest, response: HttpResponse, run_id: IdInPath, key: Key = None
) -> Answer:
    """Let the workers go on with what is left."""
    return _act(request, response, key, run_id, partial(control.resume, by=request.user))


@router.post(
    "/admin/thumbnails/runs/{id}/retry", auth=staff_with(REGENERATE, PURGE), response=STARTED
)
def retry(
    request: ApiRequest,
    response: HttpResponse,
    run_id: IdInPath,
    body: RetryIn = ALL_FAILED,
    key: Key = None,
) -> Answer:
    """Start a new run over what failed in this one, all of it or for one reason."""
    act = partial(starting.retry, origin=Run.Origin.API, reason=body.reason, by=request.user)
    return _act(request, response, key, run_id, act, body)


# --- shared ---------------------------------------------------------------------------------------


def _start(
    request: ApiRequest,
    response: HttpResponse,
    key: str | None,
    body: In,
    kind: Run.Kind,
    selection: Selection,
    *,
    force: bool = False,
) -> Answer:
    run = starting.start_on_queue(
        kind,
        selection,
        origin=Run.Origin.API,
        force=force,
        by=request.user,
        key=_request_key(request, key, body),
    )
    return _accepted(response, run)


def _act(
    request: ApiRequest,
    response: HttpResponse,
    key: str | None,
    run_id: int,
    act: Callable[[Run], Run | None],
    body: In | None = None,
) -> Answer:
    """Answers with the run that `act` returns, or that it returned when the key came first; with
    the run that it acts on if it returns None."""
    run = _run(run_id)
    permitted(request.user, [run.permission])
    request_key = _request_key(request, key, body)

    def once() -> Run:
        return act(run) or run

    return _accepted(response, once() if request_key is None else request_key.once(once))


def _accepted(response: HttpResponse, run: Run) -> Answer:
    response["Location"] = reverse("thumbnails_api:run", args=[run.pk])
    return Status(HTTPStatus.ACCEPTED, RunOut.of(run, run.progress()))


def _request_key(request: ApiRequest, key: str | None, body: In | None) -> RequestKey | None:
    if key is None:
        return None
    values = body.model_dump(mode="json", exclude_unset=True) if body else {}
    return RequestKey(user=request.user, key=key, request=[request.path, values])


def _run(run_id: int) -> Run:
    run = Run.objects.select_related("started_by").filter(pk=run_id).first()
    if run is None:
        raise Http404(f"There is no run {run_id}.")
    return run


def _ids(ids: list[int] | None) -> tuple[int, ...] | None:
    return None if ids is None else tuple(ids)

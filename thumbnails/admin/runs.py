"""Runs in the admin: read-only pages with their progress and log, and buttons to control them."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString

from thumbnails.admin import formatting
from thumbnails.admin.bounds import BoundedList, may_start_some
from thumbnails.admin.history import log_changes
from thumbnails.admin.run_report import ReportPages
from thumbnails.exceptions import NotDispatched, Reason, UsageError
from thumbnails.models import ImageAsset, Run, RunEvent, State
from thumbnails.models.recipes import labels
from thumbnails.models.runs import Progress, progress_of
from thumbnails.upkeep import queue
from thumbnails.upkeep.reports import health, run_report
from thumbnails.upkeep.reports.formatting import acceptance, done_of_total
from thumbnails.upkeep.runs import control, starting
from thumbnails.upkeep.selection.conditions import LARGEST_ID_DIGITS

VERBS = ("cancel", "resume", "retry", "accept")
EXAMPLES = 5
"""Failed images of one reason that the page of a run shows."""
EVENTS = 50
"""The newest lines of its log that the page of a run shows."""


class RunList(BoundedList):
    """A page of the list, each run with its progress: one query, however many there are."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        progress = progress_of(self.result_list, with_ids=False)
        for run in self.result_list:
            run.counted = progress[run.pk]


def _counted(run: Run) -> Progress:
    """The progress that RunList has set."""
    counted: Progress = run.counted  # type: ignore[attr-defined]
    return counted


@admin.register(Run)
class RunAdmin(ReportPages):
    list_display = (
        "name",
        "state_shown",
        "progress_shown",
        "scope_shown",
        "started",
    )
    list_filter = ("kind", "state", "created_at")
    list_select_related = ("started_by",)
    fields = (
        "kind",
        "scope_text",
        "note",
        "who",
        "origin",
        "created_at",
        "finished_at",
        "force",
        "recipe_shown",
    )

    class Media:
        js: ClassVar = ["thumbnails/run.js"]

    # --- the list -----------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunList

    @admin.display(description="run", ordering="pk")
    def name(self, run: Run) -> SafeString:
        return format_html('{}<span class="note">{}</span>', run, run.get_kind_display())

    @admin.display(description="state", ordering="state")
    def state_shown(self, run: Run) -> SafeString:
        return format_html(
            '<span class="run-state {}" title="{}">{}</span>',
            run.state,
            run.pause_reason,
            run.get_state_display(),
        )

    @admin.display(description="progress")
    def progress_shown(self, run: Run) -> SafeString:
        progress = _counted(run)
        numbers = [formatting.counts(progress), formatting.throughput(run, progress)]
        return format_html(
            '<progress max="100" value="{}" aria-label="Progress of {}">{}&nbsp;%</progress> {}',
            progress.percent,
            run,
            progress.percent,
            ", ".join(filter(None, numbers)),
        )

    @admin.display(description="scope", ordering="scope_text")
    def scope_shown(self, run: Run) -> SafeString | str:
        if not run.note:
            return run.scope_text
        return format_html('{}<span class="note">{}</span>', run.scope_text, run.note)

    @admin.display(description="started", ordering="created_at")
    def started(self, run: Run) -> SafeString:
        at = localize(timezone.localtime(run.created_at))
        by = f"by {self.who(run)}" if run.started_by else ""
        return format_html('{}<span class="note">{}</span>', at, by)

    @admin.display(
        description="started by", ordering=f"started_by__{get_user_model().USERNAME_FIELD}"
    )
    def who(self, run: Run) -> str:
        return formatting.person(run.started_by)

    @admin.display(description="recipe")
    def recipe_shown(self, run: Run) -> str:
        return labels().get(run.recipe, run.recipe)

    # --- one run ------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<int:run_id>/act/<slug:verb>/", view(self.act), name="thumbnails_run_act"),
            path("<int:run_id>/progress/", view(self.progress), name="thumbnails_run_progress"),
        ]
        return [*own, *super().get_urls()]

    def progress(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """The parts of a run's page that update themselves. They are polled, so they cost only four
        queries besides those for the user."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = get_object_or_404(Run, pk=run_id)
        progress = run.progress()
        report = _report(run, progress, health.queue_use(run))
        # The script loads the page again when the run is over, and the buttons are there.
        failures = _failures(run, progress, may_retry=False)
        return HttpResponse(report + failures)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        run = None
        if object_id.isdecimal() and len(object_id) <= LARGEST_ID_DIGITS:
            run = Run.objects.filter(pk=object_id).first()
        if run is None or not self.has_view_permission(request, run):
            return super().change_view(request, object_id, form_url, extra_context)
        queue_use = health.queue_use(run)
        progress = run.progress()
        may_act = request.user.has_perm(run.permission)
        verbs = _verbs(run, progress, queue_use) if may_act else {}
        page = {
            "verbs": verbs,
            "report": _report(run, progress, queue_use),
            "same": [
                {
                    "run": other,
                    "by": formatting.person(other.started_by) if other.started_by else "",
                }
                for other in starting.others_doing_the_same(run)
            ],
            "failures": _failures(run, progress, may_retry="retry" in verbs),
            "events": _events(run),
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **page})

    def act(self, request: HttpRequest, run_id: int, verb: str) -> HttpResponse:
        """Handle the buttons of a run's page. Needs the permission to start such a run."""
        run = get_object_or_404(Run, pk=run_id)
        if verb not in VERBS:
            raise Http404
        if not request.user.has_perm(run.permission):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            shown_run, text = self._do(request, run, verb)
        except UsageError as error:
            shown_run, text, level = run, str(error), messages.ERROR
        except NotDispatched as error:
            shown_run, text, level = error.run, str(error), messages.WARNING
        else:
            level = messages.SUCCESS
        self.message_user(request, text, level)
        return redirect("admin:thumbnails_run_change", shown_run.pk)

    def _do(self, request: HttpRequest, run: Run, verb: str) -> tuple[Run, str]:
        """Returns the run to show next, and the message."""
        by = request.user if request.user.is_authenticated else None
        if verb == "cancel":
            control.cancel(run, by=by)
            return run, f"{run} is cancelled. What it has done stays done."
        if verb == "resume":
            control.resume(run, by=by)
            return run, f"{run} goes on with what is left."
        if verb == "accept":
            changed = control.accept_failures(run)
            log_changes(request, changed, f"{acceptance(1)} It failed in {run}.")
            self.log_change(request, run, text := acceptance(len(changed)))
            return run, text
        reason = request.POST.get("reason")
        if reason and reason not in [*Reason]:
            raise UsageError(f"Unknown reason {reason!r}.")
        new = starting.retry(
            run, origin=Run.Origin.ADMIN, reason=Reason(reason) if reason else None, by=by
        )
        return new, f"{new} started over {new.scope_text}."

    # --- deletion -----------------------------------------------------------------------------

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """Not for a run that goes on or may: it is cancelled first."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_over)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """The runs alone: Django's own would list each chunk and line of their logs."""
        kept = [f"{run}, which is {run.state}: cancel it first" for run in objs if not run.is_over]
        names = [str(run) for run in objs if run.is_over]
        return names, {"runs, with their logs": len(names)}, set(), kept

    def delete_model(self, request: HttpRequest, obj: Run) -> None:
        self.delete_queryset(request, Run.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        # One may have been resumed since it was read.
        Run.objects.over().filter(pk__in=queryset).delete()

    # --- access -------------------------------------------------------------------------------

    def has_view_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """Also for users who may start one: they are redirected here."""
        return super().has_view_permission(request, obj) or may_start_some(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return super().has_module_permission(request) or self.has_view_permission(request)


def _report(run: Run, progress: Progress, queue_use: queue.QueueUse | None) -> SafeString:
    """The part of the page that updates itself."""
    context = {
        "run": run,
        # The script reloads the page when this changes: the buttons differ then.
        "state": run.state if queue_use else f"{run.state}, no queue",
        "progress": progress,
        "done_of_total": done_of_total(progress),
        "throughput": formatting.throughput(run, progress),
        "warning": health.why_it_stands_still(run, queue_use),
        "reasons": [
            (formatting.reason_label(reason), len(ids))
            for reason, ids in sorted(progress.failures.items())
        ],
    }
    return render_to_string("admin/thumbnails/run/report.html", context)


def _verbs(run: Run, progress: Progress, queue_use: queue.QueueUse | None) -> dict[str, str]:
    """The actions that the run's state allows, and the labels of their buttons."""
    verbs = {}
    if run.state in (Run.State.RUNNING, Run.State.PAUSED):
        verbs["cancel"] = "Cancel"
    stuck = run.state == Run.State.RUNNING and queue_use is None and not run.is_leased
    stands = run.state in (Run.State.PAUSED, Run.State.CANCELLED)
    if stuck or (stands and not control.why_not_resumed(run)):
        verbs["resume"] = "Resume"
    if progress.failed and run.is_over and run.kind == Run.Kind.REGENERATE:
        verbs["retry"] = "Retry failures"
        if control.has_acceptable(progress):
            verbs["accept"] = "Accept failures"
    return verbs


def _failures(run: Run, progress: Progress, *, may_retry: bool) -> SafeString:
    """For each reason the number of failures, some examples, and a link to all in the report."""
    some_ids = [asset_id for ids in progress.failures.values() for asset_id in ids[:EXAMPLES]]
    assets = ImageAsset.objects.in_bulk(some_ids)
    failures = [
        {
            "reason": reason,
            "label": formatting.reason_label(reason),
            "count": len(ids),
            "query": run_report.failures_of(reason).query,
            "examples": [
                # There is one if it was rendered since or kept an older one.
                {"asset": asset, "has_thumbnail": asset.state in (State.FRESH, State.STALE)}
                for asset in map(assets.get, ids[:EXAMPLES])
                if asset is not None
            ],
        }
        for reason, ids in sorted(progress.failures.items())
    ]
    context = {"run": run, "failures": failures, "may_retry": may_retry}
    return render_to_string("admin/thumbnails/run/failures.html", context)


def _events(run: Run) -> list[dict[str, Any]]:
    """The newest events of the run's log, the oldest of them first."""
    newest = RunEvent.objects.filter(run=run).select_related("by").order_by("-pk")[:EVENTS]
    return [
        {
            "at": event.at,
            "what": RunEvent.Kind(event.kind).label.capitalize(),
            "by": formatting.person(event.by),
            "detail": event.detail,
        }
        for event in reversed(newest)
    ]

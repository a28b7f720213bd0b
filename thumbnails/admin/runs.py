"""Runs in the admin: what was asked for and what became of it. To look at, not to edit."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import ImageAsset, Run
from thumbnails.upkeep import runs

VERBS = ("cancel", "resume", "retry")
EXAMPLES = 5
"""Failed images of one reason that the page of a run shows by name."""

if TYPE_CHECKING:  # Django's own class takes no type parameter at run time
    ModelAdmin = admin.ModelAdmin[Run]
else:
    ModelAdmin = admin.ModelAdmin


@admin.register(Run)
class RunAdmin(ModelAdmin):
    list_display = ("name", "kind", "state", "done", "scope_text", "started_by", "created_at")
    list_filter = ("kind", "state", "created_at")
    list_select_related = ("started_by",)
    fields = (
        "report",
        "kind",
        "scope_text",
        "force",
        "recipe",
        "started_by",
        "origin",
        "note",
        "created_at",
        "finished_at",
    )

    class Media:
        css: ClassVar = {"all": ["thumbnails/admin.css"]}
        js: ClassVar = ["thumbnails/run.js"]

    @admin.display(description="run", ordering="pk")
    def name(self, run: Run) -> str:
        return str(run)

    @admin.display(description="done")
    def done(self, run: Run) -> str:
        progress = run.progress()
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        return f"{progress.done:,} of {progress.total:,}{failed}"

    @admin.display(description="progress")
    def report(self, run: Run) -> SafeString:
        progress = run.progress()
        context = {
            "run": run,
            "progress": progress,
            "failures": _failures(progress.failures),
            "may_retry": "retry" in _verbs(run, progress.failed),
        }
        return render_to_string("admin/thumbnails/run/report.html", context)

    # --- cancel, resume, retry ------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        act = path(
            "<int:run_id>/act/<slug:verb>/",
            self.admin_site.admin_view(self.act),
            name="thumbnails_run_act",
        )
        return [act, *super().get_urls()]

    def act(self, request: HttpRequest, run_id: int, verb: str) -> HttpResponse:
        """What the buttons of a run's page do, for those who may start such a run."""
        run = get_object_or_404(Run, pk=run_id)
        if verb not in VERBS:
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not _may_act(request, run):
            raise PermissionDenied
        try:
            goes_to, text = self._do(request, run, verb)
        except UsageError as error:
            goes_to, text, level = run, str(error), messages.ERROR
        except runs.NotDispatched as error:
            goes_to, text, level = error.run, str(error), messages.WARNING
        else:
            level = messages.SUCCESS
        self.message_user(request, text, level)
        return redirect("admin:thumbnails_run_change", goes_to.pk)

    def _do(self, request: HttpRequest, run: Run, verb: str) -> tuple[Run, str]:
        """Gives the run to show next, and what to say."""
        if verb == "cancel":
            runs.cancel(run)
            return run, f"{run} is cancelled. What it has done stays done."
        if verb == "resume":
            runs.resume(run)
            return run, f"{run} goes on with what is left."
        reason = request.POST.get("reason")
        if reason and reason not in [*Reason]:
            raise UsageError(f"There is no reason {reason!r}.")
        by = request.user if request.user.is_authenticated else None
        new = runs.retry(
            run, origin=Run.Origin.ADMIN, reason=Reason(reason) if reason else None, by=by
        )
        return new, f"{new} started over {new.scope_text}."

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        run = Run.objects.filter(pk=object_id).first() if object_id.isdecimal() else None
        verbs = {}
        if run is not None and _may_act(request, run):
            verbs = _verbs(run, run.progress().failed)
        return super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "verbs": verbs}
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> tuple[str, ...]:
        return self.fields

    def has_view_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """Also for all who may start one: the message links here."""
        return super().has_view_permission(request, obj) or any(
            request.user.has_perm(f"thumbnails.{name}")
            for name in ("regenerate_thumbnails", "purge_thumbnails")
        )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return super().has_module_permission(request) or self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return False


def _verbs(run: Run, failed: int) -> dict[str, str]:
    """What can be done with the run as it is, and what the button says."""
    verbs = {}
    if run.state in (Run.State.RUNNING, Run.State.PAUSED):
        verbs["cancel"] = "Cancel"
    if run.state in (Run.State.PAUSED, Run.State.CANCELLED):
        verbs["resume"] = "Resume"
    if failed and run.is_over and run.kind == Run.Kind.REGENERATE:
        verbs["retry"] = "Retry failures"
    return verbs


def _may_act(request: HttpRequest, run: Run) -> bool:
    return request.user.has_perm(f"thumbnails.{run.kind}_thumbnails")


def _failures(ids_by_reason: dict[str, list[int]]) -> list[dict[str, Any]]:
    """For each reason how many failed, and some of them."""
    some_ids = [asset_id for ids in ids_by_reason.values() for asset_id in ids[:EXAMPLES]]
    assets = ImageAsset.objects.in_bulk(some_ids)
    return [
        {
            "reason": reason,
            "label": Reason(reason).label,
            "count": len(ids),
            "examples": [assets[asset_id] for asset_id in ids[:EXAMPLES] if asset_id in assets],
        }
        for reason, ids in sorted(ids_by_reason.items())
    ]

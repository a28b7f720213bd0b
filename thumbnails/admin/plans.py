"""The plan of a run: what it will do, a preview of it, and the form that starts it."""

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.views.generic import FormView

from thumbnails.admin import previews
from thumbnails.exceptions import AlreadyUnderWay, NoSpace, NotDispatched, UsageError
from thumbnails.models import ImageAsset, Run, State, recipe_in_force
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.upkeep import queue
from thumbnails.upkeep.reports.formatting import duration_between
from thumbnails.upkeep.runs import invocation, planning, preview, starting
from thumbnails.upkeep.runs.estimate import Estimate
from thumbnails.upkeep.runs.preview import Preview
from thumbnails.upkeep.runs.starting import RequestKey
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SAMPLE = 12
UNDER_WAY_SHOWN = 5


class StartForm(forms.Form):
    """The options of the run to be started."""

    once = forms.CharField(max_length=100, widget=forms.HiddenInput)
    """A key that differs on each page, so that a second click starts nothing."""
    note = forms.CharField(
        max_length=300, required=False, help_text="Why, for those who look at the run later."
    )
    rate = forms.FloatField(
        label="Images a second at most", min_value=0.01, max_value=1_000_000, required=False
    )
    ignore_space = forms.BooleanField(
        label="Start even if the disk seems too small", required=False
    )


if TYPE_CHECKING:  # Django's own class takes no type parameter at run time
    PlanFormView = FormView[StartForm]
else:
    PlanFormView = FormView


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run that has not been started."""

    kind: Run.Kind
    selection: Selection
    force: bool

    @property
    def is_purge(self) -> bool:
        return self.kind == Run.Kind.PURGE

    @cached_property
    def selected(self) -> ImageAssetQuerySet:
        """Raises UsageError for ids or a session that do not exist."""
        return self.selection.assets()

    @property
    def assets(self) -> ImageAssetQuerySet:
        """The images that it would work on."""
        return planning.to_do(self.kind, self.selected, force=self.force)

    @property
    def command(self) -> str:
        """The command that does the same."""
        return invocation.command_line(self.kind, self.selection, force=self.force)


class PlanView(PlanFormView):
    """GET shows the plan; POST shows a preview or starts the run."""

    model_admin: "admin.ModelAdmin[Any] | None" = None
    form_class = StartForm
    template_name = "admin/thumbnails/imageasset/plan.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        kind = kwargs["kind"]
        if kind not in Run.Kind:
            raise Http404
        if not request.user.has_perm(Run.Kind(kind).permission):
            raise PermissionDenied
        try:
            self.planned = PlannedRun(
                kind=Run.Kind(kind),
                selection=conditions.selection_from(request.GET.dict()),
                force=kind == Run.Kind.REGENERATE and bool(request.GET.get("force")),
            )
            return super().dispatch(request, *args, **kwargs)
        except UsageError as error:
            messages.error(request, str(error))
            return redirect("admin:thumbnails_imageasset_changelist")

    def get_initial(self) -> dict[str, Any]:
        return {"once": uuid4().hex}

    # --- the plan -----------------------------------------------------------------------------

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        planned = self.planned
        plan = planning.plan(
            planned.kind,
            planned.selected,
            force=planned.force,
            look_at_files_up_to=starting.LOOKED_AT,
        )
        title = "Purge cache" if planned.is_purge else "Regenerate thumbnails"
        return super().get_context_data(
            **self._page(title),
            plan=plan,
            without_thumbnail=plan.total - plan.deleted,
            duration=_duration(plan.estimate),
            states=[(State(state), number) for state, number in plan.states.items() if number],
            sample=[
                (asset, previews.cached_url(asset))
                for asset, _ in preview.sample(planned.assets, SAMPLE)
            ],
            previewed=preview.PREVIEWED,
            free_bytes=planning.free_bytes(),
            queue=queue.BULK if plan.total > Run.LARGE else queue.NOW,
            queue_use=queue.use_if_reachable(),
            recipe=recipe_in_force(),
            toggle_force=_with_force(self.request, not planned.force),
            under_way=Run.objects.running()
            .filter(kind=planned.kind)
            .select_related("started_by")[:UNDER_WAY_SHOWN],
            **kwargs,
        )

    def _page(self, title: str) -> dict[str, Any]:
        """The context that the plan and its preview share."""
        if self.model_admin is None:
            raise AssertionError("as_view needs the images' admin")
        planned = self.planned
        same = starting.unfinished_over(planned.kind, planned.selection, force=planned.force)
        return {
            **self.model_admin.admin_site.each_context(self.request),
            "title": title,
            "opts": ImageAsset._meta,
            "media": self.model_admin.media,
            "planned": planned,
            "same": same.first(),
        }

    # --- the preview and the start ------------------------------------------------------------

    def form_valid(self, form: StartForm) -> HttpResponse:
        if "preview" in self.request.POST and not self.planned.is_purge:
            return self._preview(form)
        try:
            return self._start(form.cleaned_data)
        except NoSpace as error:
            form.add_error("ignore_space", str(error))
            return self.form_invalid(form)

    def _preview(self, form: StartForm) -> HttpResponse:
        previewed = preview.preview(self.planned.assets)
        total = self.planned.assets.count()
        queue_use = queue.use_if_reachable()
        workers = queue_use.workers if queue_use else 0
        context = {
            **self._page("Preview"),
            "previews": [_shown(one) for one in previewed],
            "total": total,
            "changed": sum(1 for one in previewed if one.difference and one.difference.share),
            "new": sum(1 for one in previewed if one.is_new),
            "failed": sum(1 for one in previewed if one.failure),
            "duration": _duration(preview.estimate_of(previewed, total, workers)),
            "workers": max(1, workers),
            "form": form,
        }
        return TemplateResponse(self.request, "admin/thumbnails/imageasset/preview.html", context)

    def _start(self, options: dict[str, Any]) -> HttpResponse:
        planned, user = self.planned, cast("User", self.request.user)
        request = [planned.kind, planned.selection.as_json(), planned.force]
        try:
            run = starting.start_on_queue(
                planned.kind,
                planned.selection,
                origin=Run.Origin.ADMIN,
                force=planned.force,
                by=user,
                key=RequestKey(user=user, key=options["once"], request=request),
                note=options["note"],
                rate=options["rate"],
                ignore_space=options["ignore_space"],
            )
        except (AlreadyUnderWay, NotDispatched) as error:
            run = error.run
            messages.warning(self.request, str(error))
        else:
            messages.success(self.request, _started_text(run))
        return redirect("admin:thumbnails_run_change", run.pk)


def _duration(estimate: Estimate | None) -> str:
    return duration_between(estimate.at_least, estimate.at_most) if estimate else ""


def _with_force(request: HttpRequest, force: bool) -> str:
    query = request.GET.copy()
    query.pop("force", None)
    if force:
        query["force"] = "1"
    return f"?{query.urlencode()}"


def _shown(previewed: Preview) -> dict[str, Any]:
    """A preview for the template: nothing of it is stored, so the page contains its pictures."""
    difference = previewed.difference
    return {
        "asset": previewed.asset,
        "old": _data_url(previewed.old, "jpeg"),
        "old_bytes": len(previewed.old or b""),
        "new": _data_url(previewed.new, "jpeg"),
        "new_bytes": len(previewed.new or b""),
        "failure": previewed.failure,
        "is_new": previewed.is_new,
        "marked": _data_url(difference.picture, "png") if difference else "",
        "has_other_dimensions": difference is not None and difference.picture is None,
        "percent": None if difference is None else difference.share * 100,
    }


def _data_url(content: bytes | None, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if content else ""


def _started_text(run: Run) -> str:
    if run.total == 0:
        return f"{run}: nothing to do, every thumbnail is fresh."
    return f"{run} started: {run.kind} {intcomma(run.total)} image{pluralize(run.total)}."

"""Before a run: what it will do, a trial of it, and the button that starts it."""

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import reverse

from thumbnails.admin import formatting, previews
from thumbnails.exceptions import AlreadyUnderWay, NoSpace, NotDispatched, QueueDown, UsageError
from thumbnails.models import ImageAsset, Run, State, recipe_in_force
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.upkeep.runs import planning, preview, queue, starting
from thumbnails.upkeep.runs.planning import Plan
from thumbnails.upkeep.runs.preview import Preview
from thumbnails.upkeep.runs.starting import RequestKey
from thumbnails.upkeep.selection import conditions
from thumbnails.upkeep.selection.conditions import Selection

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SAMPLE = 12
UNDER_WAY_SHOWN = 5
COMMANDS = {
    Run.Kind.REGENERATE: "regenerate_thumbnails",
    Run.Kind.PURGE: "purge_thumbnails",
}


def address(kind: Run.Kind, selection: Selection) -> str:
    """Of the plan for a run over that selection."""
    query = QueryDict(mutable=True)
    query.update(selection.as_texts())
    path = reverse("admin:thumbnails_imageasset_plan", args=[kind])
    return f"{path}?{query.urlencode()}" if query else path


class StartForm(forms.Form):
    """How to start the run that the plan is of."""

    once = forms.CharField(max_length=100, widget=forms.HiddenInput)
    """Made anew with each plan, so that a second click starts nothing."""
    note = forms.CharField(
        max_length=300, required=False, help_text="Why, for whoever looks at the run later."
    )
    rate = forms.FloatField(
        label="Images a second at most", min_value=0.01, max_value=1_000_000, required=False
    )
    ignore_space = forms.BooleanField(label="Start though the disk seems too small", required=False)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody wants to have done."""

    kind: Run.Kind
    selection: Selection
    force: bool

    @property
    def digest(self) -> str:
        told = [self.kind, self.selection.as_json(), self.force]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @cached_property
    def assets(self) -> ImageAssetQuerySet:
        """Those that it would work on."""
        return planning.to_do(self.kind, self.selection.assets(), force=self.force)

    def plan(self) -> Plan:
        return planning.plan(
            self.kind,
            self.selection,
            force=self.force,
            look_at_files_up_to=starting.LOOKED_AT,
        )

    @property
    def command(self) -> str:
        """What does the same in a shell."""
        options = self.selection.as_options()
        if self.kind == Run.Kind.PURGE and not options:
            options = "--all"
        force = "--force" if self.force else ""
        return " ".join(filter(None, ["manage.py", COMMANDS[self.kind], options, force]))


def page(model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, kind: str) -> HttpResponse:
    """The plan; by POST its trial, or the start of the run."""
    if kind not in Run.Kind:
        raise Http404
    if not request.user.has_perm(Run.Kind(kind).permission):
        raise PermissionDenied
    try:
        wanted = Wanted(
            kind=Run.Kind(kind),
            selection=conditions.selection_from(request.GET.dict()),
            force=kind == Run.Kind.REGENERATE and bool(request.GET.get("force")),
        )
        if request.method == "POST":
            return _act(model_admin, request, wanted)
        return _plan(model_admin, request, wanted, StartForm(initial={"once": uuid4().hex}))
    except UsageError as error:
        model_admin.message_user(request, str(error), messages.ERROR)
        return redirect("admin:thumbnails_imageasset_changelist")


def _act(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, wanted: Wanted
) -> HttpResponse:
    form = StartForm(request.POST)
    if not form.is_valid():
        return _plan(model_admin, request, wanted, form)
    if "trial" in request.POST and wanted.kind == Run.Kind.REGENERATE:
        return _try_out(model_admin, request, wanted, form)
    try:
        return _start(model_admin, request, wanted, form.cleaned_data)
    except NoSpace as error:
        form.add_error("ignore_space", str(error))
        return _plan(model_admin, request, wanted, form)


# --- the plan -----------------------------------------------------------------------------------


def _plan(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, wanted: Wanted, form: StartForm
) -> HttpResponse:
    plan = wanted.plan()
    title = "Purge cache" if wanted.kind == Run.Kind.PURGE else "Regenerate thumbnails"
    context = {
        **_context(model_admin, request, wanted, title),
        "plan": plan,
        "duration": None if plan.seconds is None else formatting.duration(plan.seconds),
        "states": [(State(state), number) for state, number in plan.states.items() if number],
        "sample": [
            (asset, previews.address_of(asset)) for asset in preview.sample(wanted.assets, SAMPLE)
        ],
        "free_bytes": planning.free_bytes(),
        "queue": queue.BULK if plan.total > Run.LARGE else queue.NOW,
        "queue_use": _queue_use(),
        "recipe": recipe_in_force(),
        "toggle_force": _with_force(request, not wanted.force),
        "under_way": Run.objects.running()
        .filter(kind=wanted.kind)
        .select_related("started_by")[:UNDER_WAY_SHOWN],
        "form": form,
    }
    return TemplateResponse(request, "admin/thumbnails/imageasset/plan.html", context)


def _context(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, wanted: Wanted, title: str
) -> dict[str, Any]:
    return {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": ImageAsset._meta,
        "media": model_admin.media,
        "wanted": wanted,
        "is_purge": wanted.kind == Run.Kind.PURGE,
        "same": starting.doing_the_same(wanted.kind, wanted.selection, force=wanted.force),
    }


def _queue_use() -> queue.QueueUse | None:
    try:
        return queue.use()
    except QueueDown:
        return None


def _with_force(request: HttpRequest, force: bool) -> str:
    query = request.GET.copy()
    query.pop("force", None)
    if force:
        query["force"] = "1"
    return f"?{query.urlencode()}"


# --- the trial ----------------------------------------------------------------------------------


def _try_out(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, wanted: Wanted, form: StartForm
) -> HttpResponse:
    tried = preview.preview(wanted.assets)
    context = {
        **_context(model_admin, request, wanted, "Trial"),
        "tried": [_shown(one) for one in tried],
        "total": wanted.assets.count(),
        "changed": sum(1 for one in tried if one.difference and one.difference.share),
        "form": form,
    }
    return TemplateResponse(request, "admin/thumbnails/imageasset/trial.html", context)


def _shown(tried: Preview) -> dict[str, Any]:
    """For the page alone: nothing of a trial is stored, so the pictures are in it."""
    difference = tried.difference
    return {
        "asset": tried.asset,
        "old": _data_url(tried.old, "jpeg"),
        "old_bytes": len(tried.old or b""),
        "new": _data_url(tried.new, "jpeg"),
        "new_bytes": len(tried.new or b""),
        "failure": tried.failure,
        "marked": _data_url(difference.picture, "png") if difference else "",
        "is_other_shape": difference is not None and difference.picture is None,
        "percent": None if difference is None else difference.share * 100,
    }


def _data_url(content: bytes | None, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if content else ""


# --- the start ----------------------------------------------------------------------------------


def _start(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    wanted: Wanted,
    how: dict[str, Any],
) -> HttpResponse:
    user = cast("User", request.user)

    try:
        run = starting.start_on_queue(
            wanted.kind,
            wanted.selection,
            origin=Run.Origin.ADMIN,
            force=wanted.force,
            by=user,
            key=RequestKey(user=user, key=how["once"], digest=wanted.digest),
            note=how["note"],
            rate=how["rate"],
            ignore_space=how["ignore_space"],
        )
    except AlreadyUnderWay as error:
        run, text, level = error.run, str(error), messages.WARNING
    except NotDispatched as error:
        run, text, level = error.run, str(error), messages.WARNING
    else:
        text, level = _started_text(run), messages.SUCCESS
    model_admin.message_user(request, text, level)
    return redirect("admin:thumbnails_run_change", run.pk)


def _started_text(run: Run) -> str:
    if run.total == 0:
        return f"{run}: nothing was to do, every thumbnail is fresh."
    return f"{run} started: {run.kind} {intcomma(run.total)} image{pluralize(run.total)}."

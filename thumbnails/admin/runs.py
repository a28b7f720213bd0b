"""Runs in the admin: what was asked for and what became of it. To look at, not to edit."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from thumbnails.exceptions import Reason
from thumbnails.models import ImageAsset, Run

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
        "by_command",
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
        context = {"run": run, "progress": progress, "failures": _failures(progress.failures)}
        return render_to_string("admin/thumbnails/run/report.html", context)

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


def _failures(ids_by_reason: dict[str, list[int]]) -> list[dict[str, Any]]:
    """For each reason how many failed, and some of them."""
    some_ids = [asset_id for ids in ids_by_reason.values() for asset_id in ids[:EXAMPLES]]
    assets = ImageAsset.objects.in_bulk(some_ids)
    return [
        {
            "reason": Reason(reason).label,
            "count": len(ids),
            "examples": [assets[asset_id] for asset_id in ids[:EXAMPLES] if asset_id in assets],
        }
        for reason, ids in sorted(ids_by_reason.items())
    ]

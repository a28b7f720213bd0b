"""The report of a run in the admin: what became of each image, as a page and as files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from thumbnails.admin import formatting
from thumbnails.admin.bounds import ReadOnlyAdmin, Refused
from thumbnails.exceptions import Reason, UsageError
from thumbnails.models import Run
from thumbnails.models.runs import Progress
from thumbnails.upkeep.reports import run_report
from thumbnails.upkeep.reports.run_report import Filter

SHOWN = 100
"""Images on a page."""


class ReportPages(ReadOnlyAdmin):
    """For those who may look at the run."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<int:run_id>/report/", view(self.report), name="thumbnails_run_report"),
            path("<int:run_id>/report.csv", view(self.report_csv), name="thumbnails_run_csv"),
            path("<int:run_id>/report.json", view(self.report_json), name="thumbnails_run_json"),
        ]
        return [*own, *super().get_urls()]

    def report(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """A page of the run's images. The counts of now take time in proportion to the run, and
        are shown of a large one if they are asked for (`?now=1`)."""
        run = self._run(request, run_id)
        outcome, reason = request.GET.get("outcome", ""), request.GET.get("reason", "")
        try:
            wanted = run_report.filter_of(outcome, reason)
            after = run_report.position_of(request.GET.get("after", ""))
        except UsageError as error:
            raise Refused(str(error)) from error
        is_compared = run.total <= run_report.COMPARED_AT_MOST or "now" in request.GET
        page = run_report.page(run, size=SHOWN, after=after, wanted=wanted)
        progress = run.progress()
        context = {
            **self.admin_site.each_context(request),
            "title": f"Report of {run}",
            "opts": self.opts,
            "media": self.media,
            "run": run,
            "outcomes": run_report.outcomes_text(progress),
            "filters": list(_filters(progress, wanted)),
            "now": run_report.compare(run) if is_compared else None,
            "images": [(row, formatting.reason_label(row.reason)) for row in page.rows],
            "next_after": page.next_after,
            "wanted": wanted,
            "is_first": after == run_report.BEFORE_ALL,
        }
        return TemplateResponse(request, "admin/thumbnails/run/images.html", context)

    def report_csv(self, request: HttpRequest, run_id: int) -> StreamingHttpResponse:
        run = self._run(request, run_id)
        lines = run_report.as_csv(run_report.rows(run, site=_site(request)))
        return _file(lines, f"run-{run.pk}.csv", "text/csv; charset=utf-8")

    def report_json(self, request: HttpRequest, run_id: int) -> StreamingHttpResponse:
        run = self._run(request, run_id)
        parts = run_report.as_json(run, run_report.rows(run, site=_site(request)))
        return _file(parts, f"run-{run.pk}.json", "application/json")

    def _run(self, request: HttpRequest, run_id: int) -> Run:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(Run, pk=run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FilterLink:
    label: str
    number: int
    leads_to: Filter
    is_on: bool


def _filters(progress: Progress, wanted: Filter) -> Iterator[_FilterLink]:
    """Links to the images of each outcome and each reason that occurred."""
    found = [("all", progress.total, run_report.ALL)]
    outcomes = {**progress.outcomes, run_report.OPEN: progress.total - progress.done}
    for outcome, number in outcomes.items():
        found.append((outcome, number, Filter(outcome=outcome)))
    for reason, ids in sorted(progress.failures.items()):
        if reason in [*Reason]:
            found.append((Reason(reason).label, len(ids), Filter(reason=Reason(reason))))
    for label, number, leads_to in found:
        if number:
            yield _FilterLink(
                label=label, number=number, leads_to=leads_to, is_on=leads_to == wanted
            )


def _site(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").removesuffix("/")


def _file(parts: Iterable[str], name: str, content_type: str) -> StreamingHttpResponse:
    """A download, sent as it is read."""
    disposition = f'attachment; filename="{name}"'
    return StreamingHttpResponse(
        parts, content_type=content_type, headers={"Content-Disposition": disposition}
    )

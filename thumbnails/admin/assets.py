"""Assets in the admin: the list with the state of their thumbnails, and actions on many."""

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from thumbnails.admin import plans, previews
from thumbnails.admin.asset_page import AssetPage
from thumbnails.admin.bounds import BoundedAdmin, BoundedList
from thumbnails.admin.filters import FILTERS, selection_of
from thumbnails.admin.paginator import SelectionPaginator
from thumbnails.models import ImageAsset, Run, SessionImage, TrainingSession
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.upkeep.runs.invocation import plan_path
from thumbnails.upkeep.selection import conditions, pages
from thumbnails.upkeep.selection.conditions import Selection

NEWEST_IN_SESSION = 24
NARROW_TIMES = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"
LIST = "thumbnails_imageasset_changelist"


@admin.register(ImageAsset)
class ImageAssetAdmin(AssetPage):
    list_display = (
        "picture",
        "name",
        "state_shown",
        "thumbnail_size",
        "sessions_shown",
        "created_at",
    )
    list_display_links = ("name",)
    list_filter = FILTERS
    list_per_page = 60
    # Both count all images on every request; the filters show cached counts.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    # The order of an index.
    ordering = ("-created_at", "-pk")
    search_fields = ("original",)
    actions = ("regenerate_thumbnails", "purge_cache", "accept_failures", "undo_acceptance")

    class Media:
        js: ClassVar = ["thumbnails/labels.js"]

    # --- the list -----------------------------------------------------------------------------

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any) -> Any:
        # Autocompletes and the history of an image ask for one, too.
        is_list = request.resolver_match is not None and request.resolver_match.url_name == LIST
        if not is_list or ORDER_VAR in request.GET:
            return super().get_paginator(request, queryset, per_page, *args)
        selection = selection_of(request.GET.dict())
        return SelectionPaginator(selection, queryset, per_page, *args)

    @admin.display(description="thumbnail")
    def picture(self, asset: ImageAsset) -> SafeString | str:
        url = previews.cached_url(asset)
        if url is None:  # loading a missing one would render it, beside a badge that says missing
            return "–"
        width, height = asset.display_size or ("", "")
        return format_html(
            '<img class="thumbnail" src="{}" alt="" loading="lazy" width="{}" height="{}">',
            url,
            width,
            height,
        )

    @admin.display(description="name", ordering="original")
    def name(self, asset: ImageAsset) -> SafeString | str:
        folder, _, name = str(asset).rpartition("/")
        return format_html('{}<span class="folder">{}/</span>', name, folder) if folder else name

    @admin.display(description="state")
    def state_shown(self, asset: ImageAsset) -> SafeString:
        reason = asset.get_thumbnail_error_display() if asset.state.is_failure else ""
        return format_html(
            '<span class="state {}" title="{}">{}</span>',
            asset.state.value,
            asset.thumbnail_error_detail,
            f"{asset.state.label}: {reason}" if reason else asset.state.label,
        )

    @admin.display(description="size", ordering="thumbnail_bytes")
    def thumbnail_size(self, asset: ImageAsset) -> str:
        if not asset.thumbnail_bytes:
            return "–"
        size = f"{asset.thumbnail_width} × {asset.thumbnail_height}"
        return f"{size}, {filesizeformat(asset.thumbnail_bytes)}".replace(" × ", NARROW_TIMES)

    # --- actions ------------------------------------------------------------------------------

    def has_regenerate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(Run.Kind.REGENERATE.permission)

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(Run.Kind.PURGE.permission)

    @admin.action(description="Regenerate thumbnails", permissions=["regenerate"])
    def regenerate_thumbnails(
        self, request: HttpRequest, queryset: ImageAssetQuerySet
    ) -> HttpResponse:
        return redirect(plan_path(Run.Kind.REGENERATE, _selected(request)))

    @admin.action(description="Purge cache", permissions=["purge"])
    def purge_cache(self, request: HttpRequest, queryset: ImageAssetQuerySet) -> HttpResponse:
        return redirect(plan_path(Run.Kind.PURGE, _selected(request)))

    @admin.action(description="Accept failures", permissions=["regenerate"])
    def accept_failures(self, request: HttpRequest, queryset: ImageAssetQuerySet) -> None:
        self.accept(request, _selected(request))

    @admin.action(description="Undo acceptance of failures", permissions=["regenerate"])
    def undo_acceptance(self, request: HttpRequest, queryset: ImageAssetQuerySet) -> None:
        self.undo(request, _selected(request))

    def get_urls(self) -> list[URLPattern]:
        plan = path(
            "plan/<slug:kind>/",
            self.admin_site.admin_view(plans.PlanView.as_view(model_admin=self)),
            name="thumbnails_imageasset_plan",
        )
        return [plan, *super().get_urls()]


def _selected(request: HttpRequest) -> Selection:
    """The ticked images, or all that match the list's filters."""
    if request.POST.get("select_across") == "1":
        return selection_of(request.GET.dict())
    ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
    return Selection(ids=tuple(map(int, ticked)))


class SessionList(BoundedList):
    """A page of the list, each session with its number of images: one query for all of them."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        numbers = pages.count_in_sessions([session.pk for session in self.result_list])
        for session in self.result_list:
            session.number_of_images = numbers.get(session.pk, 0)


@admin.register(TrainingSession)
class TrainingSessionAdmin(BoundedAdmin):
    list_display = ("__str__", "images", "created_at")
    search_fields = ("name",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionList

    @admin.display(description="images")
    def images(self, session: Any) -> str:
        return intcomma(session.number_of_images)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingSession]:
        """Also of `admin/autocomplete/`."""
        return TrainingSession.objects.told_apart()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        session = self.get_object(request, unquote(object_id))
        images = self.admin_site.get_model_admin(ImageAsset)
        page = {}
        if session is not None and images.has_view_permission(request):
            page = {"images": _images_of(session)}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **page})

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """The sessions alone: Django's own would list each image in them, of which none goes."""
        names = [str(session) for session in objs]
        members = SessionImage.objects.filter(session__in=list(objs)).count()
        return names, {"sessions": len(names), "images in them, which stay": members}, set(), []


def _images_of(session: TrainingSession) -> dict[str, Any]:
    """The numbers of a session's images with links to their lists, and the newest of them."""
    selection = Selection(session_id=session.pk)
    texts = Selection(**conditions.fields_of_session(session.pk)).as_texts()

    def url(**more: str) -> str:
        return f"{reverse('admin:thumbnails_imageasset_changelist')}?{urlencode({**texts, **more})}"

    total, by_state = pages.count_by_state(selection)
    newest = pages.page(selection, size=NEWEST_IN_SESSION).images
    return {
        "total": total,
        "url": url(),
        "states": [
            (state, number, url(state=state.value))
            for state, number in (by_state or {}).items()
            if number
        ],
        "newest": [(asset, previews.cached_url(asset)) for asset in newest],
    }

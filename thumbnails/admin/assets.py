"""Assets in the admin: the state of their thumbnails, and the actions that mend them."""

from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME, ActionForm
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat, pluralize
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from thumbnails import conf
from thumbnails.exceptions import ThumbnailError, UsageError
from thumbnails.models import ImageAsset, Run, State, TrainingSession
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.rendering import inspect
from thumbnails.upkeep import intake, runs

if TYPE_CHECKING:  # Django's own classes take no type parameters at run time
    AssetForm = forms.ModelForm[ImageAsset]
    AssetAdmin = admin.ModelAdmin[ImageAsset]
    SessionAdmin = admin.ModelAdmin[TrainingSession]
else:
    AssetForm = forms.ModelForm
    AssetAdmin = SessionAdmin = admin.ModelAdmin


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
    ) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in State]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ImageAsset]
    ) -> QuerySet[ImageAsset]:
        value = self.value()
        if value not in State.values or not isinstance(queryset, ImageAssetQuerySet):
            return queryset
        return queryset.in_state(State(value))


class ImageAssetActionForm(ActionForm):
    force = forms.BooleanField(
        required=False,
        label="Even if fresh",
        help_text="Regenerate thumbnails that are fresh, too.",
    )


class ImageAssetForm(AssetForm):
    class Meta:
        model = ImageAsset
        fields: ClassVar = ["original", "session"]
        # Not Django's own, which links to the file: originals are never public.
        widgets: ClassVar = {"original": forms.FileInput(attrs={"accept": "image/*"})}

    def clean_original(self) -> "UploadedFile[Any]":
        upload: UploadedFile[Any] = self.cleaned_data["original"]
        try:
            inspect(cast(BinaryIO, upload.file), max_pixels=conf.current().max_pixels)
        except ThumbnailError as error:
            raise ValidationError(str(error)) from error
        upload.seek(0)
        return upload


@admin.register(ImageAsset)
class ImageAssetAdmin(AssetAdmin):
    list_display = ("picture", "name", "state_shown", "thumbnail_size", "session", "created_at")
    list_display_links = ("picture", "name")
    list_filter = (StateFilter, "session", "created_at")
    list_select_related = ("session",)
    list_per_page = 60
    ordering = ("-pk",)
    search_fields = ("original",)
    actions = ("regenerate_thumbnails", "purge_cache")
    action_form = ImageAssetActionForm
    form = ImageAssetForm

    class Media:
        css: ClassVar = {"all": ["thumbnails/admin.css"]}

    # --- the list -----------------------------------------------------------------------------

    @admin.display(description="thumbnail")
    def picture(self, asset: ImageAsset) -> SafeString | str:
        if asset.state == State.FAILED:
            return "–"
        width, height = asset.display_size or ("", "")
        return format_html(
            '<img class="thumbnail" src="{}" alt="" loading="lazy" width="{}" height="{}">',
            asset.thumbnail_url,
            width,
            height,
        )

    @admin.display(description="name", ordering="original")
    def name(self, asset: ImageAsset) -> str:
        return str(asset)

    @admin.display(description="state")
    def state_shown(self, asset: ImageAsset) -> SafeString:
        reason = asset.get_thumbnail_error_display() if asset.state == State.FAILED else ""
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
        return f"{size}, {filesizeformat(asset.thumbnail_bytes)}"

    # --- one asset ----------------------------------------------------------------------------

    FACTS = (
        "picture",
        "state_shown",
        "thumbnail_size",
        "thumbnail_generated_at",
        "thumbnail_error_detail",
        "original_facts",
        "created_at",
    )

    def get_fields(self, request: HttpRequest, obj: ImageAsset | None = None) -> Any:
        return ["original", "session"] if obj is None else ["name", "session", *self.FACTS]

    def get_readonly_fields(self, request: HttpRequest, obj: ImageAsset | None = None) -> list[str]:
        return [] if obj is None else ["name", *self.FACTS]

    @admin.display(description="original")
    def original_facts(self, asset: ImageAsset) -> str:
        return (
            f"{asset.format}, {asset.width} × {asset.height} pixels, mode {asset.mode}, "
            f"EXIF orientation {asset.orientation}"
        )

    def save_model(
        self, request: HttpRequest, obj: ImageAsset, form: AssetForm, change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            intake.describe(obj)

    # --- actions ------------------------------------------------------------------------------

    def has_regenerate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("thumbnails.regenerate_thumbnails")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("thumbnails.purge_thumbnails")

    @admin.action(description="Regenerate thumbnails", permissions=["regenerate"])
    def regenerate_thumbnails(
        self, request: HttpRequest, queryset: ImageAssetQuerySet
    ) -> HttpResponse | None:
        self._start(request, Run.Kind.REGENERATE, queryset, force=bool(request.POST.get("force")))
        return None

    @admin.action(description="Purge cache", permissions=["purge"])
    def purge_cache(
        self, request: HttpRequest, queryset: ImageAssetQuerySet
    ) -> HttpResponse | None:
        if request.POST.get("confirmed"):
            self._start(request, Run.Kind.PURGE, queryset)
            return None
        across = _is_across(request)
        return TemplateResponse(
            request,
            "admin/thumbnails/imageasset/purge_confirmation.html",
            {
                **self.admin_site.each_context(request),
                "title": "Are you sure?",
                "opts": self.model._meta,
                "count": queryset.count(),
                "scope": _scope_text(request),
                "select_across": across,
                # With *all that match* the filters in the URL say which: one id stands for them.
                "ids": request.POST.getlist(ACTION_CHECKBOX_NAME)[: 1 if across else None],
                "checkbox_name": ACTION_CHECKBOX_NAME,
            },
        )

    def _start(
        self,
        request: HttpRequest,
        kind: Run.Kind,
        queryset: ImageAssetQuerySet,
        *,
        force: bool = False,
    ) -> None:
        try:
            run = runs.start(
                kind,
                queryset,
                origin=Run.Origin.ADMIN,
                scope={"filters": dict(request.GET.lists())} if _is_across(request) else {},
                scope_text=_scope_text(request),
                force=force,
                by=request.user if request.user.is_authenticated else None,
            )
        except UsageError as error:
            self.message_user(request, str(error), messages.ERROR)
        except runs.NotDispatched as error:
            text = (
                "{} is saved, but the queue cannot be reached. It goes on by itself when queue "
                "and workers are back."
            )
            self.message_user(request, format_html(text, _link(error.run)), messages.WARNING)
        else:
            text = format_html(
                "{} started: {} {} image{}.",
                _link(run),
                run.kind,
                intcomma(run.total),
                pluralize(run.total),
            )
            self.message_user(request, text, messages.SUCCESS)


def _is_across(request: HttpRequest) -> bool:
    return request.POST.get("select_across") == "1"


def _scope_text(request: HttpRequest) -> str:
    if not _is_across(request):
        return "ticked in the admin"
    filters = ", ".join(f"{key} {value}" for key, value in request.GET.items() if value)
    return f"all that match {filters}" if filters else "all images"


def _link(run: Run) -> SafeString:
    url = reverse("admin:thumbnails_run_change", args=[run.pk])
    return format_html('<a href="{}">{}</a>', url, run)


@admin.register(TrainingSession)
class TrainingSessionAdmin(SessionAdmin):
    list_display = ("name", "created_at")
    search_fields = ("name",)

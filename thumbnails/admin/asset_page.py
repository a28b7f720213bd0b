"""The admin page of one asset: its data, and actions on this one image."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat, pluralize
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from thumbnails import conf
from thumbnails.admin import alike, formatting, originals, previews
from thumbnails.admin.bounds import BoundedAdmin
from thumbnails.admin.history import log_changes
from thumbnails.exceptions import Busy, ThumbnailError, UsageError
from thumbnails.models import ImageAsset, Outcome, Run, State, TrainingSession, recipe_in_force
from thumbnails.models.assets import ImageAssetQuerySet
from thumbnails.models.recipes import labels
from thumbnails.models.results import Result
from thumbnails.rendering import Facts, endings_of, listed
from thumbnails.upkeep.images import freshness, importing, serving
from thumbnails.upkeep.images.acceptance import accept_failures, undo_acceptance
from thumbnails.upkeep.images.tracked_fields import is_tracked
from thumbnails.upkeep.reports.formatting import acceptance
from thumbnails.upkeep.selection.conditions import Selection

if TYPE_CHECKING:  # Django's own classes take no type parameters at run time
    AssetForm = forms.ModelForm[ImageAsset]
    SessionChoice = forms.ModelMultipleChoiceField[TrainingSession]
else:
    AssetForm = forms.ModelForm
    SessionChoice = forms.ModelMultipleChoiceField


class SessionsWidget(AutocompleteSelectMultiple):
    def build_attrs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # Each session has a button; that for all of them at once is one that screen readers take
        # for a list's item and lists do not have.
        return {**super().build_attrs(*args, **kwargs), "data-allow-clear": "false"}


class SessionsField(SessionChoice):
    """An image's sessions, found by their names: there may be thousands."""

    def __init__(self) -> None:
        super().__init__(
            TrainingSession.objects.told_apart(),
            required=False,
            widget=SessionsWidget(ImageAsset._meta.get_field("sessions"), admin.site),
        )


class OriginalInput(forms.FileInput):
    """Offers files in the formats that the site takes, by their endings."""

    def build_attrs(
        self, base_attrs: dict[str, Any], extra_attrs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        accept = ",".join(endings_of(conf.current().formats))
        return super().build_attrs({**base_attrs, "accept": accept}, extra_attrs)


class OriginalsInput(OriginalInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One or several uploads."""

    widget = OriginalsInput

    def clean(self, data: Any, initial: Any = None) -> Any:
        return [super(FilesField, self).clean(each, initial) for each in data or [None]]


class NewAssetForm(AssetForm):
    original = FilesField(label="Originals")
    sessions = SessionsField()
    accepted: list[tuple["UploadedFile[Any]", Facts]]
    """The uploads that are images, with what their headers say, once they are validated. The first
    is the form's own instance."""
    refused: list[str]
    """Why others are not."""
    others: list[ImageAsset]
    """What was saved besides the instance."""

    class Meta:
        model = ImageAsset
        fields: ClassVar = ["original"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        formats = f"{listed(conf.current().formats)}."
        at_most = settings.DATA_UPLOAD_MAX_NUMBER_FILES
        several = f" Up to {at_most} files at once." if at_most else ""
        self.fields["original"].help_text = formats + several

    def clean_original(self) -> "UploadedFile[Any]":
        uploads: list[UploadedFile[Any]] = self.cleaned_data["original"]
        self.accepted, self.refused = [], []
        for upload in uploads:
            try:
                self.accepted.append((upload, _facts_by(serving.inspect_upload, upload)))
            except ValidationError as error:
                self.refused.append(f"{upload.name}: {' '.join(error.messages)}")
        if not self.accepted:
            raise ValidationError(self.refused)
        return self.accepted[0][0]


class TrackedAssetForm(AssetForm):
    """Of an original that another model's row has: it is replaced there."""

    sessions = SessionsField()

    class Meta:
        model = ImageAsset
        fields: ClassVar[list[str]] = []


class KnownAssetForm(TrackedAssetForm):
    replacement = forms.FileField(
        required=False,
        label="New original",
        widget=OriginalInput,
        help_text="Takes the original's place, and the thumbnail is made from it at once. "
        "The old file is kept.",
    )

    def clean_replacement(self) -> Facts | None:
        upload: UploadedFile[Any] | None = self.cleaned_data["replacement"]
        return None if upload is None else _facts_by(serving.render_upload, upload)


def _facts_by(check: Callable[[BinaryIO], Facts], upload: "UploadedFile[Any]") -> Facts:
    try:
        return check(cast(BinaryIO, upload.file))
    except (ThumbnailError, Busy) as error:
        raise ValidationError(str(error)) from error


class AssetPage(BoundedAdmin):
    """The part of the assets' admin for the page of one asset."""

    THUMBNAIL = (
        "thumbnail_shown",
        "state_shown",
        "thumbnail_size",
        "variants",
        "thumbnail_generated_at",
        "recipe",
        "thumbnail_error_detail",
    )
    ORIGINAL = (
        "original_format",
        "original_size",
        "original_storage",
        "original_maker",
        "original_profile",
        "original_file",
        "created_at",
    )

    def get_queryset(self, request: HttpRequest) -> ImageAssetQuerySet:
        return ImageAsset.objects.order_by(*self.ordering or ()).with_sessions()

    @admin.display(description="sessions")
    def sessions_shown(self, asset: ImageAsset) -> str:
        return ", ".join(map(str, asset.sessions.all())) or "–"

    # --- the page -----------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: ImageAsset | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["original", "sessions"]})]
        may_change = self.has_change_permission(request, obj)
        own = ["full_name", "sessions" if may_change else "sessions_shown"]
        if may_change and not is_tracked(obj):
            own.append("replacement")
        return [
            (None, {"fields": own}),
            ("Thumbnail", {"fields": self.THUMBNAIL}),
            ("Original", {"fields": self.ORIGINAL}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: ImageAsset | None = None) -> list[str]:
        return (
            [] if obj is None else ["full_name", "sessions_shown", *self.THUMBNAIL, *self.ORIGINAL]
        )

    def get_form(
        self,
        request: HttpRequest,
        obj: ImageAsset | None = None,
        change: bool = False,
        **kwargs: Any,
    ) -> Any:
        if obj is None:
            kwargs["form"] = NewAssetForm
        else:
            kwargs["form"] = TrackedAssetForm if is_tracked(obj) else KnownAssetForm
        return super().get_form(request, obj, change, **kwargs)

    @admin.display(description="name")
    def full_name(self, asset: ImageAsset) -> str:
        return str(asset)

    @admin.display(description="thumbnail")
    def thumbnail_shown(self, asset: ImageAsset) -> SafeString | str:
        if asset.state.is_failure and not asset.thumbnail_path:
            return "There is none."
        if asset.state == State.MISSING:
            # Loading it would render it, also the one that was just purged.
            return "There is none. It is rendered on its next request."
        width, height = asset.display_size or ("", "")
        return format_html(
            '<div class="true-size" tabindex="0" role="group" aria-label="Thumbnail at true size">'
            '<img class="thumbnail" src="{}" alt="{}" width="{}" height="{}"></div>',
            previews.cached_url(asset) or "",
            asset.title,
            width,
            height,
        )

    @admin.display(description="variants")
    def variants(self, asset: ImageAsset) -> SafeString | str:
        rows = sorted(asset.thumbnail_variants.items())
        texts = (
            (suffix, f"{width} × {height}, {filesizeformat(size_bytes)}")
            for suffix, (width, height, size_bytes) in rows
        )
        if asset.state != State.FRESH:  # its address would have it refreshed
            return format_html_join("", "{}: {}<br>", texts) or "–"
        return (
            format_html_join(
                "",
                '<a href="{}">{}</a>: {}<br>',
                ((asset.variant_url(suffix), suffix, text) for suffix, text in texts),
            )
            or "–"
        )

    @admin.display(description="recipe")
    def recipe(self, asset: ImageAsset) -> str:
        if not asset.thumbnail_recipe:
            return "–"
        in_force = asset.thumbnail_recipe == recipe_in_force().digest
        name = labels().get(asset.thumbnail_recipe, asset.thumbnail_recipe)
        return f"{name}, {'in force' if in_force else 'no longer in force'}"

    @admin.display(description="format")
    def original_format(self, asset: ImageAsset) -> str:
        return f"{asset.format}, mode {asset.mode}" if asset.format else "–"

    @admin.display(description="size")
    def original_size(self, asset: ImageAsset) -> str:
        if not asset.width or not asset.height:
            return "–"
        turned = "upright" if asset.orientation == 1 else f"EXIF orientation {asset.orientation}"
        megapixels = asset.width * asset.height / 1e6
        return f"{asset.width} × {asset.height} pixels ({megapixels:.1f} megapixels), {turned}"

    @admin.display(description="stored as")
    def original_storage(self, asset: ImageAsset) -> SafeString | str:
        if not asset.facts_version:
            return "The next render reads that."
        depth, frames, note = asset.bit_depth, asset.frames, asset.note
        return _links_to_alike(
            ("compression", asset.compression, asset.compression),
            ("bit-depth", depth, f"{depth} bit{'' if depth == 1 else 's'} a channel"),
            ("alpha", *(("yes", "with alpha") if asset.has_alpha else ("no", "without alpha"))),
            ("frames", frames, f"{frames} frame{'' if frames == 1 else 's'}"),
            ("note", note, f"shown in part: {note}"),
        )

    @admin.display(description="made by")
    def original_maker(self, asset: ImageAsset) -> SafeString | str:
        camera, software = asset.camera, asset.software
        return _links_to_alike(("camera", camera, camera), ("software", software, software))

    @admin.display(description="colour profile")
    def original_profile(self, asset: ImageAsset) -> SafeString | str:
        return _links_to_alike(("profile", asset.color_profile, asset.color_profile))

    @admin.display(description="file")
    def original_file(self, asset: ImageAsset) -> str:
        size, _, changed = asset.source_version.partition("-")
        if not (size.isdecimal() and changed.isdecimal()):
            return "–"
        moment = datetime.fromtimestamp(int(changed) / 1e6, UTC)
        return f"{filesizeformat(int(size))}, changed {moment:%Y-%m-%d %H:%M:%S} UTC"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        asset = self.get_object(request, unquote(object_id))
        page: dict[str, Any] = {}
        if asset is not None:
            page = {
                "asset_verbs": {
                    kind.value for kind in Run.Kind if request.user.has_perm(kind.permission)
                },
                "asset_may_show_original": self.has_change_permission(request, asset),
                "asset_history": _history(asset),
                "may_be_accepted": ImageAsset.objects.acceptable().filter(pk=asset.pk).exists(),
                "is_accepted": asset.state == State.ACCEPTED,
            }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **page})

    # --- another original ---------------------------------------------------------------------

    def save_model(
        self, request: HttpRequest, obj: ImageAsset, form: AssetForm, change: bool
    ) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            self._add_others(request, obj, cast(NewAssetForm, form))
            return
        # The row is not saved: a worker may be writing the thumbnail's columns.
        facts: Facts | None = form.cleaned_data.get("replacement")
        if facts is not None:
            self._replace(request, obj, facts)

    def save_related(
        self, request: HttpRequest, form: AssetForm, formsets: Any, change: bool
    ) -> None:
        sessions = form.cleaned_data["sessions"]
        for asset in (form.instance, *getattr(form, "others", ())):
            asset.set_sessions(sessions)

    def _add_others(self, request: HttpRequest, first: ImageAsset, form: NewAssetForm) -> None:
        """Add the uploads besides the first, which is saved, and record the facts of all."""
        (_, facts), *others = form.accepted
        importing.record_facts(first, facts)
        form.others = []
        for upload, facts in others:
            asset = ImageAsset.objects.create(original=upload)
            importing.record_facts(asset, facts)
            self.log_addition(request, asset, [{"added": {}}])
            form.others.append(asset)
        if number := len(others):
            text = f"{number} other image{pluralize(number)} added."
            self.message_user(request, text, messages.SUCCESS)
        for sentence in form.refused:
            self.message_user(request, f"Not added: {sentence}", messages.WARNING)

    def _replace(self, request: HttpRequest, asset: ImageAsset, facts: Facts) -> None:
        upload = cast("UploadedFile[Any]", request.FILES["replacement"])
        try:
            importing.replace_original(
                asset, cast(BinaryIO, upload.file), facts, name=upload.name or "picture"
            )
        except ThumbnailError as error:
            self.message_user(request, str(error), messages.ERROR)
        except ImageAsset.DoesNotExist:
            self._report_deleted(request)
        else:
            # After the transaction: another process that renders this thumbnail would wait for
            # the row, and this one for its lock.
            transaction.on_commit(partial(self._render, request, asset))

    def response_change(self, request: HttpRequest, obj: ImageAsset) -> HttpResponse:
        """Return to the same page, which shows the new picture."""
        if "replacement" in request.FILES:
            return redirect(request.path)
        return super().response_change(request, obj)

    # --- regenerate, purge --------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path(
                f"<int:asset_id>/{kind.value}/",
                view(getattr(self, f"{kind.value}_view")),
                name=f"thumbnails_imageasset_{kind.value}",
            )
            for kind in Run.Kind
        ]
        own += [
            path(
                f"<int:asset_id>/{act.__name__}/",
                view(partial(self._acceptance_view, act=act)),
                name=f"thumbnails_imageasset_{act.__name__}",
            )
            for act in (self.accept, self.undo)
        ]
        own += [
            path(
                f"<int:asset_id>/{route}/",
                view(partial(page, self)),
                name=f"thumbnails_imageasset_{name}",
            )
            for route, name, page in (
                ("as-it-is", "as_it_is", previews.as_it_is),
                ("original", "original", originals.original),
                ("alike", "alike", alike.alike),
                ("alike/chosen", "alike_chosen", alike.chosen),
            )
        ]
        return [*own, *super().get_urls()]

    def regenerate_view(self, request: HttpRequest, asset_id: int) -> HttpResponse:
        asset = self._asset_for(request, asset_id, Run.Kind.REGENERATE)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if asset is not None:
            self._render(request, asset)
        return redirect("admin:thumbnails_imageasset_change", asset_id)

    def purge_view(self, request: HttpRequest, asset_id: int) -> HttpResponse:
        """GET asks for confirmation; POST deletes the thumbnail."""
        asset = self._asset_for(request, asset_id, Run.Kind.PURGE)
        if asset is None:
            return redirect("admin:thumbnails_imageasset_change", asset_id)
        if request.method == "POST":
            if (result := freshness.purge_now(asset.pk)) is not None:
                self._report(request, asset, result)
            return redirect("admin:thumbnails_imageasset_change", asset_id)
        context = {
            **self.admin_site.each_context(request),
            "title": "Are you sure?",
            "opts": self.opts,
            "asset": asset,
            "media": self.media,
        }
        return TemplateResponse(
            request, "admin/thumbnails/imageasset/purge_one_confirmation.html", context
        )

    # --- acceptance of failures ---------------------------------------------------------------

    def _acceptance_view(
        self,
        request: HttpRequest,
        asset_id: int,
        act: Callable[[HttpRequest, Selection], None],
    ) -> HttpResponse:
        asset = self._asset_for(request, asset_id, Run.Kind.REGENERATE)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if asset is not None:
            act(request, Selection(ids=(asset_id,)))
        return redirect("admin:thumbnails_imageasset_change", asset_id)

    def accept(self, request: HttpRequest, selection: Selection) -> None:
        """Accept failures, and show and log that."""
        self._set_acceptance(request, selection, accept_failures)

    def undo(self, request: HttpRequest, selection: Selection) -> None:
        """Undo the acceptance of failures, and show and log that."""
        self._set_acceptance(request, selection, undo_acceptance, undo=True)

    def _set_acceptance(
        self,
        request: HttpRequest,
        selection: Selection,
        change: Callable[[ImageAssetQuerySet], list[int]],
        *,
        undo: bool = False,
    ) -> None:
        try:
            changed = change(selection.assets())
        except UsageError as error:  # one was deleted meanwhile
            self.message_user(request, str(error), messages.ERROR)
            return
        log_changes(request, changed, acceptance(1, undo=undo))
        level = messages.SUCCESS if changed else messages.WARNING
        self.message_user(request, acceptance(len(changed), undo=undo), level)

    def _asset_for(self, request: HttpRequest, asset_id: int, kind: Run.Kind) -> ImageAsset | None:
        """Returns None if it was deleted meanwhile. Raises PermissionDenied."""
        # What is allowed for one image is what a run of this kind does to many.
        if not (
            request.user.has_perm(kind.permission) and self.has_view_or_change_permission(request)
        ):
            raise PermissionDenied
        return ImageAsset.objects.filter(pk=asset_id).first()

    def _render(self, request: HttpRequest, asset: ImageAsset) -> None:
        try:
            result = serving.render_now(asset.pk)
        except Busy as error:
            self.message_user(request, str(error), messages.WARNING)
            return
        if result is None:
            self._report_deleted(request)
        else:
            self._report(request, asset, result)

    def _report(self, request: HttpRequest, asset: ImageAsset, result: Result) -> None:
        """Show the result as a message, and write it to the admin's log."""
        texts = {
            Outcome.RENDERED: "The thumbnail was rendered.",
            Outcome.FRESH: "The thumbnail is fresh: another process has just rendered it.",
            Outcome.PURGED: "The thumbnail is purged.",
        }
        text, level = texts.get(result.outcome, ""), messages.SUCCESS
        if result.outcome in (Outcome.FAILED, Outcome.ACCEPTED):
            reason = result.reason.label if result.reason else "unknown"
            detail = result.failure.thumbnail_error_detail if result.failure else ""
            text, level = f"It failed: {reason}. {detail}".strip(), messages.ERROR
        self.message_user(request, text, level)
        self.log_change(request, asset, text)

    def _report_deleted(self, request: HttpRequest) -> None:
        self.message_user(request, "The image was deleted meanwhile.", messages.WARNING)


def _links_to_alike(*facts: tuple[str, str | int | None, str]) -> SafeString | str:
    """Condition, its text and words for it: each as a link to the list of images that match."""
    address = reverse("admin:thumbnails_imageasset_changelist")
    links = [(f"{address}?{urlencode({name: text})}", words) for name, text, words in facts if text]
    return format_html_join(", ", '<a href="{}">{}</a>', links) or "–"


def _history(asset: ImageAsset) -> list[dict[str, Any]]:
    return [
        {
            "at": parse_datetime(entry["at"]),
            "outcome": Outcome(entry["outcome"]).label,
            "reason": formatting.reason_label(entry["reason"]) if "reason" in entry else "",
            "run": entry.get("run"),
        }
        for entry in asset.thumbnail_history
    ]

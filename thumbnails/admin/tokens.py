"""API tokens in the admin: made for oneself, shown once, revoked."""

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from thumbnails.admin.bounds import BoundedAdmin
from thumbnails.models import ApiToken
from thumbnails.models.tokens import ApiTokenQuerySet

if TYPE_CHECKING:  # Django's own classes take no type parameters at run time
    from django.contrib.auth.models import User

    ModelForm = forms.ModelForm[ApiToken]
else:
    ModelForm = forms.ModelForm


class ApiTokenForm(ModelForm):
    class Meta:
        model = ApiToken
        fields: ClassVar = ["name", "user", "expires_at"]

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("That has passed already.")
        return expires_at


@admin.register(ApiToken)
class ApiTokenAdmin(BoundedAdmin):
    list_display = ("name", "hint", "user", "state", "created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", f"user__{get_user_model().USERNAME_FIELD}")
    actions = ("revoke",)
    form = ApiTokenForm

    @admin.display(description="state")
    def state(self, token: ApiToken) -> str:
        if token.revoked_at:
            return "Revoked"
        return "Expired" if token.is_expired else "Valid"

    @admin.action(description="Revoke", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: ApiTokenQuerySet) -> None:
        number = queryset.revoke()
        self.message_user(request, f"{number} token{pluralize(number)} revoked.", messages.SUCCESS)

    # --- creation -------------------------------------------------------------------------------

    def save_model(
        self, request: HttpRequest, obj: ApiToken, form: ModelForm, change: bool
    ) -> None:
        if not _is_superuser(request):
            obj.user = cast("User", request.user)
        secret = obj.make_secret()
        obj.save()
        cast(Any, request).secret = secret

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the secret on a page that is not cached. A message could store it in a cookie."""
        response = TemplateResponse(
            request,
            "admin/thumbnails/apitoken/issued.html",
            {
                **self.admin_site.each_context(request),
                "title": f"Token “{obj.name}”",
                "opts": self.model._meta,
                "media": self.media,
                "token": obj,
                "secret": cast(Any, request).secret,
            },
        )
        add_never_cache_headers(response)
        return response

    # --- access ---------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        """The user's own tokens; all of them for a superuser."""
        found = super().get_queryset(request)
        return found if _is_superuser(request) else found.filter(user=request.user.pk)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        if obj is not None:
            return [
                *("name", "hint", "user", "state", "created_at"),
                *("expires_at", "last_used_at", "revoked_at"),
            ]
        # A token for another user would lend that user's rights.
        return ["name", "user", "expires_at"] if _is_superuser(request) else ["name", "expires_at"]

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.name == "user":
            kwargs["queryset"] = _staff()
            kwargs["initial"] = request.user.pk
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(
        self, db_field: Any, request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, AdminSplitDateTime):
            # Django writes these words beside the two fields, but as no labels.
            for widget, part in zip(field.widget.widgets, ("date", "time"), strict=True):
                widget.attrs["aria-label"] = f"{field.label}, {part}"
        return field

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False


def _staff() -> "QuerySet[User]":
    """Active staff, as far as the user model has columns that say so; the API asks each user."""
    model = get_user_model()
    columns = {field.name for field in model._meta.concrete_fields}
    return model._default_manager.filter(**dict.fromkeys(columns & {"is_staff", "is_active"}, True))


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))

"""Users in the site's admin, and what a new password does to their API tokens."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from thumbnails.admin.users import RevokedTokensMessage
from thumbnails.models import tokens

if TYPE_CHECKING:  # Django's own class takes no type parameter at run time
    BaseUserAdmin = DjangoUserAdmin[User]
else:
    BaseUserAdmin = DjangoUserAdmin

admin.site.unregister(User)


@admin.register(User)
class UserAdmin(RevokedTokensMessage, BaseUserAdmin):
    """Django's, and it says how many API tokens a new password revoked."""


def change_own_password(request: HttpRequest) -> HttpResponse:
    """The admin's page *Change password*. Only here is it sure that the users do it themselves."""
    tokens.keep_tokens(request.user)
    return admin.site.password_change(request)

"""The site's admin: its titles, and what it adds to the pages of users and groups."""

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from thumbnails.admin.bounds import BoundedAdmin
from thumbnails.admin.users import RevokedTokensMessage
from thumbnails.models import tokens


def set_up(site: admin.AdminSite) -> None:
    """To be called once, after all apps have registered their models."""
    site.site_header = site.site_title = "Thumbsite"
    site.index_title = "Images and their thumbnails"
    _extend(site, get_user_model(), RevokedTokensMessage, BoundedAdmin)
    _extend(site, Group, BoundedAdmin)


def _extend(site: admin.AdminSite, model: type[Model], *mixins: type) -> None:
    """Register the model again with its pages as they are and these mixins."""
    if site.is_registered(model):
        pages = type(site.get_model_admin(model))
        site.unregister(model)
        site.register(model, type(pages.__name__, (*mixins, pages), {}))


def change_own_password(request: HttpRequest) -> HttpResponse:
    """The admin's page *Change password*, the only one on which users change their own."""
    tokens.keep_tokens(request.user)
    return admin.site.password_change(request)

from typing import NoReturn

from django.contrib import admin
from django.http import Http404
from django.urls import include, path

from thumbsite.admin import change_own_password, set_up

admin.autodiscover()
set_up(admin.site)

handler500 = "thumbsite.errors.server_error"


def nothing_here(*_: object, **__: object) -> NoReturn:
    raise Http404


urlpatterns = [
    path("", include("thumbnails.urls")),  # first: what the public asks for most
    path("", include("thumbnails.gallery_urls")),
    path("api/v1/", include("thumbnails.api.urls")),
    path("admin/django_rq/", include("django_rq.urls")),
    path("admin/password_change/", admin.site.admin_view(change_own_password, cacheable=True)),
    # "View on site": no model here has such a page, and django-rq's have no table to look in.
    path("admin/r/<path:object>/", admin.site.admin_view(nothing_here)),
    path("admin/", admin.site.urls),
]

from django.contrib import admin
from django.urls import include, path

from thumbsite.admin import change_own_password, set_up

set_up(admin.site)

handler500 = "thumbsite.errors.server_error"

urlpatterns = [
    path("", include("thumbnails.urls")),  # first: what the public asks for most
    path("admin/django_rq/", include("django_rq.urls")),
    path("admin/password_change/", admin.site.admin_view(change_own_password, cacheable=True)),
    path("admin/", admin.site.urls),
]

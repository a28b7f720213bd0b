from django.contrib import admin
from django.urls import include, path

from thumbsite.admin import change_own_password

admin.site.site_header = "Thumbsite"
admin.site.site_title = "Thumbsite"
admin.site.index_title = "Images and their thumbnails"

handler500 = "thumbsite.errors.server_error"

urlpatterns = [
    path("", include("thumbnails.urls")),  # first: what the public asks for most
    path("admin/django_rq/", include("django_rq.urls")),
    path("admin/password_change/", admin.site.admin_view(change_own_password, cacheable=True)),
    path("admin/", admin.site.urls),
]

from django.contrib import admin
from django.urls import include, path

admin.site.site_header = "Thumbsite"
admin.site.site_title = "Thumbsite"
admin.site.index_title = "Images and their thumbnails"

handler500 = "thumbsite.errors.server_error"

urlpatterns = [
    path("", include("thumbnails.urls")),  # first: what the public asks for most
    path("admin/django_rq/", include("django_rq.urls")),
    path("admin/", admin.site.urls),
]

"""The gallery: a public page with all images, and one for each."""

from django.urls import path

from thumbnails import views

app_name = "thumbnails_gallery"
urlpatterns = [
    path("", views.gallery, name="gallery"),
    path("images/<int:asset_id>/", views.image, name="image"),
]

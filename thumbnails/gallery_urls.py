"""The gallery: a public page with all images."""

from django.urls import path

from thumbnails import views

app_name = "thumbnails_gallery"
urlpatterns = [path("", views.gallery, name="gallery")]

"""Models with pictures, as other projects have them."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import InMemoryStorage
from django.db import models

bucket = InMemoryStorage()


class VisibleManager(models.Manager["Product"]):
    """Hides some of the rows."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().exclude(name="hidden")


class Product(models.Model):
    name = models.CharField(max_length=20)
    photo = models.ImageField(upload_to="products", max_length=700, blank=True, null=True)
    manual = models.FileField(upload_to="manuals", blank=True)

    objects = VisibleManager()

    class Meta:
        app_label = "shop"

    def __str__(self) -> str:
        return self.name


class Book(Product):
    """In a table of its own, with a primary key of its own."""

    product = models.OneToOneField(Product, models.CASCADE, parent_link=True, primary_key=False)
    isbn = models.CharField(max_length=13, primary_key=True)

    class Meta:
        app_label = "shop"


class Bargain(Product):
    class Meta:
        app_label = "shop"
        proxy = True


class WithLogo(models.Model):
    logo = models.ImageField(upload_to="products", storage=bucket)

    class Meta:
        abstract = True
        app_label = "shop"


class Brand(WithLogo):
    class Meta:
        app_label = "shop"

    def __str__(self) -> str:
        return str(self.logo)


class Swappable(models.Model):
    picture = models.ImageField()

    class Meta:
        app_label = "shop"
        swappable = "SHOP_PICTURE_MODEL"

    def __str__(self) -> str:
        return str(self.picture)


MODELS: list[type[models.Model]] = [Product, Book, Brand]
"""Those with a table."""

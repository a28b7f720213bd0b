"""What tests that commit leave behind: the tables as migrating made them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from tests.conftest import MakeAsset
from tests.databases import empty_tables
from tests.runs import start_here
from thumbnails.models import ImageAsset, Run, TrainingSession

pytestmark = pytest.mark.django_db(transaction=True)


def test_tables__are_emptied_but_for_what_migrating_made(
    make_asset: MakeAsset, staff_client: Client
) -> None:
    made = Permission.objects.count(), ContentType.objects.count()
    make_asset(session="Sea")
    start_here()
    empty_tables()
    for model in (ImageAsset, TrainingSession, Run, User):
        assert not model._default_manager.exists()
    assert (Permission.objects.count(), ContentType.objects.count()) == made
    assert all(made)
    empty_tables()  # where nothing is to be done

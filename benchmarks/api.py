"""The cost of the API compared with a plain Django view."""

import statistics
import warnings
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path

from django.contrib.auth.models import Permission, User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.test.utils import override_settings
from django.urls import include
from django.urls import path as route

from benchmarks.meters import cpu_milliseconds
from benchmarks.report import Bound, Row, Section
from benchmarks.site import NothingToMeasure
from thumbnails.models import ApiToken, ImageAsset
from thumbnails.upkeep.images import importing

RATIO_BOUND = Bound(at_most=1.5)
REQUESTS, ROUNDS = 100, 7


def bare(request: HttpRequest, image_id: int) -> HttpResponse:
    """Authentication and the row, in as few lines of plain Django as possible."""
    token = ApiToken.objects.with_secret(request.headers["Authorization"].removeprefix("Bearer "))
    if token is None or not token.user.has_perm("thumbnails.view_imageasset"):
        return HttpResponse(status=HTTPStatus.FORBIDDEN)
    asset = ImageAsset.objects.get(pk=image_id)
    return JsonResponse(
        {
            "assetId": asset.pk,
            "state": asset.state,
            "thumbnailUrl": asset.thumbnail_url,
            "width": asset.width,
            "height": asset.height,
        }
    )


urlpatterns = [route("bare/<int:image_id>", bare), route("", include("thumbsite.urls"))]


def measure(photo: Path) -> Section:
    """With an image of this process's site that it imports."""
    asset = importing.import_file(photo)
    user = User.objects.create_user("script", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_imageasset"))
    _, secret = ApiToken.objects.issue(user, "benchmark")
    with override_settings(ROOT_URLCONF=__name__):
        client = Client(headers={"Authorization": f"Bearer {secret}"})
        with warnings.catch_warnings():
            # Static files are not collected here; WhiteNoise finds those of the apps.
            warnings.filterwarnings("ignore", "No directory at", UserWarning)
            client.handler.load_middleware()
        asks = [
            partial(_ask, client, address)
            for address in (f"/api/v1/images/{asset.pk}", f"/bare/{asset.pk}")
        ]
        ours_ms, bare_ms = _by_turns(*asks)
    return Section(
        title="API",
        rows=[
            Row(
                key="api.image_ratio",
                label="an image's facts, to a bare view with the same token and queries",
                value=ours_ms / bare_ms,
                unit="× CPU",
                digits=2,
                bound=RATIO_BOUND,
                note=f"{ours_ms:.2f} ms to {bare_ms:.2f}",
            )
        ],
    )


def _by_turns(*acts: Callable[[], None]) -> list[float]:
    """The median CPU of each per request, measured by turns so that any drift affects all."""
    found: list[list[float]] = [[] for _ in acts]
    for _ in range(ROUNDS):
        for times, act in zip(found, acts, strict=True):
            times.append(cpu_milliseconds(act) / REQUESTS)
    return [statistics.median(times) for times in found]


def _ask(client: Client, address: str) -> None:
    for _ in range(REQUESTS):
        response = client.get(address)
        if response.status_code != HTTPStatus.OK:
            raise NothingToMeasure(f"{address} answers {response.status_code}.")

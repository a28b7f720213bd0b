"""Liveness and readiness for load balancers, without authentication."""

from django.http import HttpRequest, HttpResponse
from ninja import Router

from thumbnails.api.errors import unavailable
from thumbnails.api.openapi import answers
from thumbnails.api.schemas import Liveness, Readiness
from thumbnails.upkeep.reports.readiness import reachable

router = Router(tags=["health"], by_alias=True, auth=None)


@router.get("/healthz", response=answers({200: Liveness}))
def healthz(request: HttpRequest) -> Liveness:
    """The process answers."""
    return Liveness()


@router.get("/readyz", response=answers({200: Readiness}, also=(503,)))
def readyz(request: HttpRequest) -> Readiness | HttpResponse:
    """Database, queue and cache answer."""
    checks = {dependency.value: answered for dependency, answered in reachable().items()}
    if all(checks.values()):
        return Readiness(checks=checks)
    away = " and ".join(name for name, answered in checks.items() if not answered)
    return unavailable(f"No answer from: {away}.", checks=checks)

"""Checks of the site's settings for `manage.py check --deploy`."""

from typing import Any

from django.conf import settings
from django.core import checks


@checks.register(checks.Tags.security, deploy=True)
def check_proxies(**_: Any) -> list[checks.CheckMessage]:
    """Warns if TLS ends in a proxy that is not counted in PROXIES."""
    if settings.SECURE_PROXY_SSL_HEADER is None or settings.NINJA_NUM_PROXIES > 0:
        return []
    return [
        checks.Warning(
            "HTTPS is on and PROXIES is 0. If there is a proxy in front, all clients share its "
            "address, and a stranger who fails to log in often enough locks the staff out.",
            hint="Set PROXIES to the number of proxies that append to X-Forwarded-For. If there "
            "is none, ignore this.",
            id="thumbsite.W001",
        )
    ]

"""Rate limits, counted in Django's cache."""

import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from redis.exceptions import RedisError

from thumbnails.exceptions import TooMany

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """A fixed-window rate limit per caller.

    While the cache cannot be reached nothing is counted and every call is allowed: a limit must
    not lock out staff.
    """

    name: str
    seconds: int = 60

    def count(self, who: str, *, at_most: int) -> str | None:
        """Count one call. Raises TooMany, and does not count it, if it is over the limit.

        Atomic: of any number of concurrent calls exactly `at_most` are allowed. Returns a receipt
        for `give_back`, or None if nothing was counted.
        """
        key, wait_seconds = self._window(who)
        try:
            # Twice the window: the key never expires before its window ends.
            cache.add(key, 0, timeout=2 * self.seconds)
            number = cache.incr(key)
        except (RedisError, OSError, ValueError) as error:
            logger.warning("Nothing is throttled, the cache cannot be reached: %s", error)
            return None
        if number > at_most:
            self.give_back(key)
            raise TooMany(wait_seconds)
        return key

    def give_back(self, receipt: str | None) -> None:
        """Uncount one call, in the window that it was counted in."""
        if receipt is not None:
            with suppress(RedisError, OSError, ValueError):  # ValueError: the key has expired
                cache.decr(receipt)

    def _window(self, who: str) -> tuple[str, int]:
        """The key of the current window, and the seconds until its end."""
        window, passed = divmod(int(time.time()), self.seconds)
        digest = hashlib.sha256(who.encode(errors="surrogatepass")).hexdigest()[:32]
        return f"thumbnails:throttle:{self.name}:{digest}:{window}", self.seconds - passed


def client_address(request: HttpRequest) -> str:
    """The client's address, behind NINJA_NUM_PROXIES proxies; without that setting there is none.

    Each proxy appends the address that it was asked from to X-Forwarded-For. What stands before
    these the client has made up.
    """
    proxies: int = getattr(settings, "NINJA_NUM_PROXIES", None) or 0
    forwarded: str | None = request.META.get("HTTP_X_FORWARDED_FOR")
    if forwarded is None or proxies == 0:
        return str(request.META.get("REMOTE_ADDR", ""))
    return forwarded.split(",")[-proxies:][0].strip()

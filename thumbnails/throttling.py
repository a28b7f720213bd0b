"""Limits on how often somebody may do something, counted in Django's cache."""

import hashlib
import logging
import time
from dataclasses import dataclass

from django.core.cache import cache
from django.http import HttpRequest
from ninja.throttling import BaseThrottle
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


class TooMany(Exception):
    """Somebody did it too often."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"Too many requests: try again in {wait_seconds} seconds.")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """So many in each window of so many seconds, for each who does it.

    Where the cache cannot be reached nothing is counted and everybody may: a limit is no reason
    to lock the staff out.
    """

    name: str
    seconds: int = 60

    def count(self, who: str, *, at_most: int) -> None:
        """Count one more. Raises TooMany where that is over the limit."""
        key, wait_seconds = self._window(who)
        try:
            cache.add(key, 0, timeout=self.seconds)
            number = cache.incr(key)
        except (RedisError, OSError, ValueError) as error:
            logger.warning("Nothing is throttled, the cache cannot be reached: %s", error)
            return
        if number > at_most:
            raise TooMany(wait_seconds)

    def demand_room(self, who: str, *, at_most: int) -> None:
        """Raises TooMany where one more would be over the limit; counts nothing."""
        key, wait_seconds = self._window(who)
        try:
            number = cache.get(key, 0)
        except (RedisError, OSError) as error:
            logger.warning("Nothing is throttled, the cache cannot be reached: %s", error)
            return
        if number >= at_most:
            raise TooMany(wait_seconds)

    def _window(self, who: str) -> tuple[str, int]:
        """The key of the window of now, and the seconds until its end."""
        window, passed = divmod(int(time.time()), self.seconds)
        digest = hashlib.sha256(who.encode(errors="surrogatepass")).hexdigest()[:32]
        return f"thumbnails:throttle:{self.name}:{digest}:{window}", self.seconds - passed


def client_address(request: HttpRequest) -> str:
    """Whose request it is, past as many proxies as NINJA_NUM_PROXIES says there are."""
    return BaseThrottle().get_ident(request) or ""

"""The site's responses to requests that failed."""

import sys
from http import HTTPStatus

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.defaults import server_error as djangos_server_error

from thumbnails.api.errors import RETRY_SECONDS

PAGE = f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>Not available now</title>
  <link rel="icon" href="data:,">
</head>
<body>
  <h1>Not available now</h1>
  <p>The site's database does not answer. Try again in {RETRY_SECONDS} seconds.</p>
</body>
</html>
"""
LINE = "The database does not answer.\n"


def server_error(request: HttpRequest) -> HttpResponse:
    """Returns a 503 if the database is away, and Django's 500 otherwise. Makes no query.

    Django calls it (`handler500`) while it handles the exception of a view or a middleware.
    """
    if isinstance(sys.exception(), OperationalError | InterfaceError):
        return _database_away(request)
    return djangos_server_error(request)


def _database_away(request: HttpRequest) -> HttpResponse:
    is_picture = request.path.endswith(".jpg")  # loaded by an <img>, which shows no page
    return HttpResponse(
        LINE if is_picture else PAGE,
        content_type=f"text/{'plain' if is_picture else 'html'}; charset=utf-8",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"},
    )

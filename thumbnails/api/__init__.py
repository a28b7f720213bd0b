"""The HTTP API for scripts: JSON. Nothing else of the app needs django-ninja."""

from thumbnails.api import health, images, runs
from thumbnails.api.auth import VIEW_IMAGES, staff_with
from thumbnails.api.errors import answer_with_problems
from thumbnails.api.middleware import StrictParser, nothing_in_query
from thumbnails.api.openapi import DocumentedAPI, LocalSwagger

api = DocumentedAPI(
    title="Thumbnails",
    version="1",
    description=(
        "Thumbnails are public. All else is for staff with the permission of the operation: by "
        "session with CSRF, or by token as `Authorization: Bearer`."
    ),
    urls_namespace="thumbnails_api",
    auth=staff_with(VIEW_IMAGES),
    docs=LocalSwagger({"persistAuthorization": False}),
    parser=StrictParser(),
)
answer_with_problems(api)
api.add_decorator(nothing_in_query)
for module in (images, runs, health):
    api.add_router("", module.router)

"""The API's URLs; where a project includes them is its own choice."""

from thumbnails.api import api
from thumbnails.api.middleware import wrapped

app_name = api.urls_namespace
urlpatterns = wrapped(api.urls[0])

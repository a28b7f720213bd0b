"""For Jinja2: `{{ thumbnail(asset) }}`, `{{ picture(asset) }}` and `{{ thumbnail_url(asset) }}`."""

from jinja2 import Environment
from jinja2.ext import Extension

from thumbnails import markup


class ThumbnailsExtension(Extension):
    """Adds the functions to an environment. Needs no tags of its own."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        for function in (markup.thumbnail, markup.picture, markup.thumbnail_url):
            environment.globals[function.__name__] = function

"""The site's settings with one more view, which hits are compared with."""

from thumbsite.settings import *  # noqa: F403  all of the site's settings

ROOT_URLCONF = "benchmarks.hit_urls"

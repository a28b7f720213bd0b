"""The site's settings, with one view more: what a hit is held against."""

from thumbsite.settings import *  # noqa: F403  the site's own, whatever they are

ROOT_URLCONF = "benchmarks.hit_urls"

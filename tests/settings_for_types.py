"""The site's settings for mypy's Django plugin, which loads them and has no environment to give."""

import os

os.environ.setdefault("SECRET_KEY", "only-for-the-types-" * 3)

from thumbsite.settings import *  # noqa: F403

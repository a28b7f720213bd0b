"""The site's settings with that user model."""

from thumbsite.settings import *  # noqa: F403
from thumbsite.settings import INSTALLED_APPS as SITE_APPS

INSTALLED_APPS = [*SITE_APPS, "tests.emails"]
AUTH_USER_MODEL = "emails.User"

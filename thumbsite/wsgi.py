"""The site as a WSGI application, for gunicorn."""

import os

from django.core.wsgi import get_wsgi_application

from thumbnails.storage import thumbnails as cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thumbsite.settings")

application = get_wsgi_application()
cache.check_folder()

"""The site's settings for its processes under test: a decoder and a disk that can fail."""

import os

from thumbsite.settings import *  # noqa: F403
from thumbsite.settings import INSTALLED_APPS as _APPS
from thumbsite.settings import STORAGES as _STORAGES
from thumbsite.settings import THUMBNAIL_DIR

INSTALLED_APPS = [*_APPS, "tests.faults.standin.StandIn"]

if _quota := os.environ.get("FAULTS_QUOTA_BYTES"):
    STORAGES = {
        **_STORAGES,
        "thumbnails": {
            "BACKEND": "tests.faults.standin.QuotaStorage",
            "OPTIONS": {"location": THUMBNAIL_DIR, "quota_bytes": int(_quota)},
        },
    }

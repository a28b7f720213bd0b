"""The site's settings for its processes under test: storages that can fail."""

import os

from tests.faults.permissions import obey_permissions
from thumbsite.settings import *  # noqa: F403
from thumbsite.settings import ORIGINALS_DIR, THUMBNAIL_DIR
from thumbsite.settings import STORAGES as _STORAGES

if os.environ.get("FAULTS_LIKE_OTHERS"):
    obey_permissions()

STORAGES = _STORAGES

if _quota := os.environ.get("FAULTS_QUOTA_BYTES"):
    STORAGES = {
        **STORAGES,
        "thumbnails": {
            "BACKEND": "tests.faults.standin.QuotaStorage",
            "OPTIONS": {"location": THUMBNAIL_DIR, "quota_bytes": int(_quota)},
        },
    }

if _errors := os.environ.get("FAULTS_DISTANT_ERRORS"):
    STORAGES = {
        **STORAGES,
        "originals": {
            "BACKEND": "tests.faults.distant.DistantStorage",
            "OPTIONS": {"location": str(ORIGINALS_DIR), "errors": _errors},
        },
    }

if _url := os.environ.get("FAULTS_S3_URL"):
    STORAGES = {
        **STORAGES,
        "originals": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "endpoint_url": _url,
                "bucket_name": "originals",
                "access_key": os.environ["FAULTS_S3_KEY"],
                "secret_key": os.environ["FAULTS_S3_SECRET"],
                "region_name": "us-east-1",
                "file_overwrite": False,
            },
        },
    }

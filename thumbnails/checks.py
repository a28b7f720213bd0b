"""System checks of the project that the app is installed in; docs/settings.md lists them.

They see what `conf.current`, which stops the start over a wrong value of the app's own settings,
cannot judge: the project's other settings. They ask no database and nothing over a network.
"""

import os
import sys
from collections.abc import Sequence
from copy import copy
from pathlib import PurePath
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.module_loading import import_string

from thumbnails import conf
from thumbnails.storage import originals as originals_store
from thumbnails.storage.names import name_for
from thumbnails.upkeep.images import tracked_fields
from thumbnails.upkeep.images.tracked_fields import TrackedField
from thumbnails.upkeep.queue import BULK, NOW

TAG = "thumbnails"
WORKER_CLASS = "thumbnails.workers.ThumbnailWorker"
CACHE_STORAGE = "thumbnails.storage.thumbnails.ThumbnailStorage"
PILLOWS_DEFAULT = 89_478_485
"""Of `PIL.Image.MAX_IMAGE_PIXELS`: 256 MiB of RGB."""

Messages = list[checks.CheckMessage]


# --- Files ----------------------------------------------------------------------------------------


@checks.register(TAG)
def check_storages(**_: Any) -> Messages:
    """Whether originals and thumbnails have suitable storages, in places apart."""
    found: Messages = []
    stores: dict[str, Storage] = {}
    for alias in ("originals", "thumbnails"):
        try:
            stores[alias] = storages[alias]
        except (ImproperlyConfigured, TypeError, ValueError) as error:
            found.append(_unusable(alias, error))
    if (thumbnails := stores.get("thumbnails")) and not _replaces(thumbnails):
        found.append(_does_not_replace(thumbnails))
    if (originals := stores.get("originals")) and _replaces(originals):
        found.append(_replaces_originals(originals))
    if originals and thumbnails:
        found += _overlap(originals, thumbnails)
    return found


def _unusable(alias: str, error: Exception) -> checks.Error:
    example = (
        f'"BACKEND": "{CACHE_STORAGE}", "OPTIONS": {{"location": "/a/folder/of/its/own"}}'
        if alias == "thumbnails"
        else '"BACKEND": "django.core.files.storage.FileSystemStorage", '
        '"OPTIONS": {"location": "/a/private/folder"}'
    )
    return checks.Error(
        f'STORAGES["{alias}"] cannot be used: {error}',
        hint=f'Define it, as in STORAGES["{alias}"] = {{{example}}}.',
        id="thumbnails.E001",
    )


def _does_not_replace(store: Storage) -> checks.Error:
    return checks.Error(
        f'STORAGES["thumbnails"], a {type(store).__name__}, does not replace files: a thumbnail '
        "that is rendered again would be stored beside the old one, under another name.",
        hint=f"On a disk use {CACHE_STORAGE}, which also replaces atomically. Of other storages "
        "set the option: allow_overwrite of Django's FileSystemStorage, file_overwrite of S3 and "
        "Google Cloud, overwrite_files of Azure.",
        id="thumbnails.E002",
    )


def _replaces_originals(store: Storage) -> checks.Error:
    return checks.Error(
        f'STORAGES["originals"], a {type(store).__name__}, replaces files: an upload would '
        "overwrite another image's original of the same name.",
        hint='Set its option, such as "file_overwrite": False of S3 and Google Cloud, '
        '"overwrite_files": False of Azure, "allow_overwrite": False of FileSystemStorage.',
        id="thumbnails.E003",
    )


def _replaces(store: Storage) -> bool:
    """Whether it saves a file under the name of an existing one.

    Asked of a copy to which that name exists, so that nothing is written and no server is asked:
    storages decide by their options or by `exists`.
    """
    name = name_for(1)
    probe = copy(store)
    vars(probe)["exists"] = name.__eq__
    return probe.get_available_name(name) == name


def _overlap(originals: Storage, thumbnails: Storage) -> Messages:
    ours, theirs = _place_of(thumbnails), _place_of(originals)
    if ours is None or theirs is None or ours[0] != theirs[0]:
        return []
    cache, private = ours[1], theirs[1]
    if cache == private:
        where = f"are both in {cache}"
    elif cache.is_relative_to(private) or private.is_relative_to(cache):
        where = f"lie one inside the other: {private} and {cache}"
    else:
        return []
    return [
        checks.Error(
            f"Originals and thumbnails {where}. The cache is public and may be deleted at any "
            "time, originals are neither; and thumbnails would be imported as originals.",
            hint='Give STORAGES["originals"] and STORAGES["thumbnails"] locations apart.',
            id="thumbnails.E004",
        )
    ]


def _place_of(store: Storage) -> tuple[object, PurePath] | None:
    """The disk or bucket, and the folder in it; None for a storage of unknown kind."""
    if isinstance(store, FileSystemStorage):
        return None, PurePath(os.path.realpath(store.location))
    bucket = getattr(store, "bucket_name", None) or getattr(store, "azure_container", None)
    if bucket is None:
        return None
    server = getattr(store, "endpoint_url", None)
    return (server, bucket), PurePath("/", str(getattr(store, "location", "")).strip("/"))


@checks.register(TAG)
def check_tracked_fields(**_: Any) -> Messages:
    """Whether fields can be tracked, and have their files in places of their own."""
    found: Messages = [
        checks.Error(
            f"{label} cannot be tracked: {fault}",
            hint="Name an ImageField by the model that defines it, as in "
            'track("catalog.Product", "photo") or '
            'THUMBNAILS = {"TRACK": ["catalog.Product.photo"]}.',
            id="thumbnails.E008",
        )
        for label, fault in tracked_fields.faults().items()
    ]
    for field in tracked_fields.tracked_fields():
        try:
            fault = _fault_of_place(field)
        except (ImproperlyConfigured, TypeError, ValueError):
            continue  # a storage cannot be used, which is reported
        if fault:
            found.append(
                checks.Error(
                    f"{field.label} cannot be tracked: {fault}",
                    hint="Let its files, the cache and other originals be in places apart.",
                    id="thumbnails.E009",
                )
            )
    return found


def _fault_of_place(field: TrackedField) -> str:
    ours, theirs = _place_of(storages["thumbnails"]), _place_of(field.storage)
    if ours and theirs and ours[0] == theirs[0] and theirs[1].is_relative_to(ours[1]):
        return (
            f"its files in {theirs[1]} are in the cache, {ours[1]}, which may be deleted at any "
            "time."
        )
    if field.root in originals_store.configured_roots():
        return f"{field.root}, the root of its files, is the name of another root of originals."
    main = originals_store.locate("").folder
    if main is not None and os.path.lexists(hidden := PurePath(main, field.root)):
        return (
            f"{hidden} would be hidden by the root of its files, whose originals have "
            f"names that begin with {field.root}/."
        )
    return ""


# --- Apps and queues ------------------------------------------------------------------------------


@checks.register(TAG)
def check_apps(**_: Any) -> Messages:
    """Whether the apps are installed that this one needs, but for those it cannot start without."""
    needed = {"django_rq": "the command rqworker comes from it"}
    if apps.is_installed("django.contrib.admin"):
        needed["django.contrib.humanize"] = "the admin's pages use its template tags"
    return [
        checks.Error(
            f"{app} is not in INSTALLED_APPS: {why}.",
            hint=f'Add "{app}" to INSTALLED_APPS.',
            id="thumbnails.E005",
        )
        for app, why in needed.items()
        if not apps.is_installed(app)
    ]


@checks.register(TAG)
def check_queues(**_: Any) -> Messages:
    """Whether RQ has the app's queues, and workers that recover runs."""
    found: Messages = []
    queues = getattr(settings, "RQ_QUEUES", {})
    if missing := [name for name in (NOW, BULK) if name not in queues]:
        found.append(
            checks.Error(
                f"RQ_QUEUES has no {' and no '.join(map(repr, missing))}: no run can be enqueued.",
                hint=f'Define both, as in RQ_QUEUES["{missing[0]}"] = '
                '{"URL": "redis://127.0.0.1:6379/0"}, and start a worker: '
                f"manage.py rqworker {NOW} {BULK}.",
                id="thumbnails.E006",
            )
        )
    worker_class = getattr(settings, "RQ", {}).get("WORKER_CLASS", "rq.worker.Worker")
    if not _is_our_worker(worker_class):
        found.append(
            checks.Warning(
                f"RQ's workers are of the class {worker_class}: after a crash, or if the queue "
                "loses its data, none of them lets runs go on.",
                hint=f'Set RQ = {{"WORKER_CLASS": "{WORKER_CLASS}"}}, or a subclass of it. Jobs of '
                "other apps run in it as in RQ's own. If all workers of these queues are started "
                "with --worker-class, silence this.",
                id="thumbnails.W001",
            )
        )
    return found


def _is_our_worker(worker_class: str | type) -> bool:
    if worker_class == WORKER_CLASS:
        return True
    if isinstance(worker_class, str):
        try:
            worker_class = import_string(worker_class)
        except ImportError:
            return False
    # By name, since the module of ours takes long to import.
    bases: Sequence[type] = getattr(worker_class, "__mro__", ())
    return any(f"{base.__module__}.{base.__qualname__}" == WORKER_CLASS for base in bases)


# --- Other settings -------------------------------------------------------------------------------


@checks.register(TAG)
def check_time_zones(**_: Any) -> Messages:
    """Whether times have a time zone."""
    if settings.USE_TZ:
        return []
    return [
        checks.Error(
            "USE_TZ is False, and the times of thumbnails and runs have a time zone.",
            hint="Set USE_TZ = True.",
            id="thumbnails.E007",
        )
    ]


@checks.register(TAG)
def check_names(**_: Any) -> Messages:
    """Whether it is plain which settings are this app's and which are another package's."""
    names, others = conf.prefixed_names(), conf.other_packages()
    if not names or conf.has_dict() == bool(others):
        return []
    listed = ", ".join(names)
    if others:
        return [
            checks.Warning(
                f"thumbnails reads {listed}, which may be meant for {' or '.join(others)}: the "
                "names of its settings begin alike.",
                hint="Move this app's own settings into THUMBNAILS = {…}, with keys such as "
                '"QUALITY" for THUMBNAIL_QUALITY. It wins: then no other setting is read.',
                id="thumbnails.W002",
            )
        ]
    return [
        checks.Warning(
            f"Not read, since there is THUMBNAILS, which wins: {listed}.",
            hint='Move them into THUMBNAILS, with keys such as "QUALITY" for THUMBNAIL_QUALITY. '
            "If they are another package's, silence this.",
            id="thumbnails.W003",
        )
    ]


@checks.register(TAG)
def check_cache(**_: Any) -> Messages:
    """Whether rate limits are counted by all processes together."""
    if not (fault := _fault_of_cache()):
        return []
    return [
        checks.Warning(
            f'CACHES["default"] {fault}, so rate limits do not hold for all processes together.',
            hint="Use a cache that all processes share and that counts atomically, such as "
            "django.core.cache.backends.redis.RedisCache.",
            id="thumbnails.W004",
        )
    ]


def _fault_of_cache() -> str:
    match caches["default"]:
        case DummyCache():
            return "keeps nothing"
        case LocMemCache():
            return "belongs to one process alone"
        case FileBasedCache():
            return "belongs to one host alone and does not count atomically"
        case _:
            return ""


@checks.register(TAG)
def check_pillow(**_: Any) -> Messages:
    """Whether the project sets a limit of Pillow's that is stricter than the app's own."""
    pillow = sys.modules.get("PIL.Image")  # not imported: then it is not set
    theirs = getattr(pillow, "MAX_IMAGE_PIXELS", None)
    ours = conf.current().max_pixels
    if theirs is None or theirs == PILLOWS_DEFAULT or theirs >= ours:
        return []
    return [
        checks.Warning(
            f"PIL.Image.MAX_IMAGE_PIXELS is set to {theirs:,}, and originals are not subject to "
            f"it: they are decoded in processes of their own, up to {ours:,} pixels.",
            hint='If originals are to have no more, set THUMBNAILS = {"MAX_PIXELS": …} or, '
            "without that dict, THUMBNAIL_MAX_PIXELS. Otherwise silence this.",
            id="thumbnails.W005",
        )
    ]

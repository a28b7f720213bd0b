from django.apps import AppConfig
from django.core.signals import request_started
from django.db.models.signals import post_delete, pre_save

from thumbnails import conf


class ThumbnailsConfig(AppConfig):
    name = "thumbnails"
    verbose_name = "Thumbnails"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from thumbnails import checks  # noqa: F401, PLC0415  registers them
        from thumbnails.models import ImageAsset, recipes, tokens  # noqa: PLC0415  models come after apps
        from thumbnails.storage.originals import check_roots  # noqa: PLC0415
        from thumbnails.upkeep.images.deletion import asset_deleted  # noqa: PLC0415

        settings = conf.current()  # an invalid setting stops every process at startup
        if settings.track:  # otherwise no process has to import it
            from thumbnails.upkeep.images import tracking  # noqa: PLC0415

            for label in settings.track:
                tracking.track(*label.rpartition(".")[::2])
        check_roots()
        request_started.connect(recipes.announce_with_first_request)
        post_delete.connect(asset_deleted, sender=ImageAsset)
        if settings.cdn:  # otherwise no process has to import it
            from thumbnails.signals import thumbnails_changed  # noqa: PLC0415
            from thumbnails.upkeep import cdn  # noqa: PLC0415

            thumbnails_changed.connect(cdn.record)
        # Without a sender: a proxy of the user model is a sender of its own.
        pre_save.connect(tokens.revoke_before_reset)

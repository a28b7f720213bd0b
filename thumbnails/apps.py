from django.apps import AppConfig

from thumbnails import conf


class ThumbnailsConfig(AppConfig):
    name = "thumbnails"
    verbose_name = "Thumbnails"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # A wrong setting stops every process at its start, whatever it would have done first.
        conf.current()

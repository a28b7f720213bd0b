from django.apps import AppConfig


class ThumbsiteConfig(AppConfig):
    name = "thumbsite"

    def ready(self) -> None:
        from thumbsite import checks  # noqa: F401, PLC0415  registers them

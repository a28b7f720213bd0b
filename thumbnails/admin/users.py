"""Users in the admin, as far as their API tokens are concerned."""

from typing import Any

from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.http import HttpRequest

from thumbnails.admin.bounds import ModelAdmin
from thumbnails.models import tokens


class RevokedTokensMessage(ModelAdmin):
    """A mixin for a project's UserAdmin: shows how many API tokens a new password revoked."""

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        if number := tokens.number_revoked(obj):
            text = "API token of {} was" if number == 1 else "API tokens of {} were"
            self.message_user(
                request, f"{number} {text.format(obj)} revoked.", level=messages.WARNING
            )
        return super().log_change(request, obj, message)

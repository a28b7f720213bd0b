"""Create a token for the API, and show it once."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser
from django.utils import timezone

from thumbnails.exceptions import UsageError
from thumbnails.management.base import ThumbnailCommand, checked
from thumbnails.models import ApiToken
from thumbnails.upkeep.selection.conditions import days


class Command(ThumbnailCommand):
    help = (
        "Create a token with which scripts may do over the API what the user may. It is shown "
        "only once; revoke it in the admin."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="whose rights it has")
        parser.add_argument("--name", required=True, metavar="N", help="what it is for")
        parser.add_argument(
            "--expires",
            type=checked(days),
            metavar="90d",
            help="expire after this many days (default: never)",
        )
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        User = get_user_model()  # noqa: N806  it is a class
        named = {User.USERNAME_FIELD: options["user"]}
        user = User._default_manager.filter(**named).first()
        if user is None:
            raise UsageError(f"There is no user {options['user']!r}.")
        name = options["name"].strip()
        longest = ApiToken._meta.get_field("name").max_length or 0
        if not 0 < len(name) <= longest:
            raise UsageError(f"A token's name has 1 to {longest} characters.")
        valid_days: int | None = options["expires"]
        if valid_days == 0:
            raise UsageError("A token for 0 days would be expired at once.")
        expires_at = None if valid_days is None else timezone.now() + timedelta(days=valid_days)
        token, secret = ApiToken.objects.issue(user, name, expires_at=expires_at)
        if options["json"]:
            self.print_json(
                {
                    "token": secret,
                    "name": token.name,
                    "user": user.get_username(),
                    "expiresAt": expires_at.isoformat() if expires_at else None,
                }
            )
            return
        if not user.is_staff:
            self.stderr.write(f"{user.get_username()} is not staff: the API will refuse the token.")
        self.stderr.write("This is shown once; keep it like a password.")
        self.stdout.write(secret)

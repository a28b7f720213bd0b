"""The environment as typed values. A wrong one raises ImproperlyConfigured with its name."""

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"0", "false", "no", "off", ""}
MAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
KEY_LENGTH, KEY_DIFFERENT = 50, 5
"""What a secret key needs at least, as in Django's own check of a deployment (security.W009)."""


def text(name: str, default: str | None = None) -> str:
    """Returns the variable's text or the default. Raises ImproperlyConfigured if both are unset."""
    value = os.environ.get(name) or default
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set: the site does not start without it.")
    return value


def secret_key(name: str, *, may_be_weak: bool) -> str:
    """Returns the variable's text. Raises ImproperlyConfigured if it is not set or can be guessed.

    The key is all that it takes to forge sessions, so a weak one must not reach production.
    """
    key = text(name)
    is_weak = (
        len(key) < KEY_LENGTH
        or len(set(key)) < KEY_DIFFERENT
        or key.startswith("django-insecure-")  # `startproject` writes it into a file
    )
    if is_weak and not may_be_weak:
        raise ImproperlyConfigured(
            f"{name} is too weak: it must be random, with at least {KEY_LENGTH} characters, "
            f"{KEY_DIFFERENT} of them different, and not begin with 'django-insecure-'. "
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    return key


def integer(name: str, default: int) -> int:
    value = os.environ.get(name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def boolean(name: str, default: bool) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    word = value.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ImproperlyConfigured(f"{name} must be 'on' or 'off', not {value!r}.")


def one_of(name: str, *choices: str) -> str:
    """Returns the variable's text, the first choice if it is not set."""
    value = os.environ.get(name) or choices[0]
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(choices)}, not {value!r}.")
    return value


def path(name: str, default: Path) -> Path:
    """Returns an absolute path: a relative one would depend on where the process is started."""
    value = Path(os.environ.get(name) or default)
    if not value.is_absolute():
        raise ImproperlyConfigured(f"{name} must be an absolute path, not {str(value)!r}.")
    return value


def folders(name: str) -> dict[str, Path]:
    """Returns the folders of a list like `photos=/export/photos,nas=/mnt/nas` by their names."""
    found: dict[str, Path] = {}
    for word in words(name):
        title, is_given, folder = word.partition("=")
        if not is_given or title in found:
            fault = f"names {title} twice" if is_given else f"has {word!r}"
            raise ImproperlyConfigured(
                f"{name} must be a list like photos=/export/photos,nas=/mnt/nas, with each name "
                f"once; it {fault}."
            )
        found[title] = Path(folder)
    return found


def package(name: str) -> Path:
    """Returns the folder of an installed package, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImproperlyConfigured(f"The package {name} is not installed.")
    return Path(spec.origin).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mails are handed in, by SMTP."""

    host: str = "localhost"
    port: int = 25
    user: str = ""
    password: str = field(default="", repr=False)
    use_tls: bool = False
    """STARTTLS."""
    use_ssl: bool = False
    """TLS from the beginning."""


def mail_server(name: str) -> MailServer:
    """Returns the server of an address like `smtp+tls://user:password@mail.example.org:587`;
    Django's default, to which nothing is sent, if there is none."""
    value = os.environ.get(name)
    if not value:
        return MailServer()
    try:
        parts = urlsplit(value)
        port = parts.port or MAIL_PORTS[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if not parts.hostname or parts.path.strip("/") or parts.query:
        raise ImproperlyConfigured(
            f"{name} must be an address like smtp+tls://user:password@mail.example.org:587, with "
            "smtp:// for no TLS or smtps:// for TLS from the beginning, and % escapes in user and "
            "password."
        )
    return MailServer(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        use_tls=parts.scheme == "smtp+tls",
        use_ssl=parts.scheme == "smtps",
    )


def words(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """Returns the parts of a comma-separated list."""
    value = os.environ.get(name)
    if value is None:
        return list(default)
    return [word.strip() for word in value.split(",") if word.strip()]

"""Settings of the site, read once from the environment; docs/settings.md explains each variable.

Safe for production as they stand: DEBUG is off, a strong SECRET_KEY is required, HTTPS is assumed.
"""

from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from thumbsite import environment

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

# --- Security ---------------------------------------------------------------------------------
DEBUG = environment.boolean("DEBUG", default=False)
SECRET_KEY = environment.secret_key("SECRET_KEY", may_be_weak=DEBUG)
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = environment.words("CSRF_TRUSTED_ORIGINS")

HTTPS = environment.boolean("HTTPS", default=True)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
# Browsers keep both for a year, for hosts that this site may know nothing of, so the owner of the
# domain has to enable them.
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS and environment.boolean("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = HTTPS and environment.boolean("HSTS_PRELOAD", default=False)
# The deployment checks that recommend both to every site.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# The proxy in front ends TLS and sets this header; without HTTPS it is ignored.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
X_FRAME_OPTIONS = "DENY"
# Monitoring requests them directly, without the proxy.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/(healthz|readyz)$"]

# --- Thumbnails: the app itself checks the values when it starts (thumbnails.conf) --------------
THUMBNAIL_SIZE = environment.integer("THUMBNAIL_SIZE", 256)
THUMBNAIL_QUALITY = environment.integer("THUMBNAIL_QUALITY", 85)
THUMBNAIL_VARIANTS = environment.text("THUMBNAIL_VARIANTS", "")
THUMBNAIL_FORMATS = environment.text("THUMBNAIL_FORMATS", "default")
THUMBNAIL_SHOW_TRUNCATED = environment.boolean("THUMBNAIL_SHOW_TRUNCATED", default=False)
THUMBNAIL_CMYK_PROFILE = environment.text("THUMBNAIL_CMYK_PROFILE", "")
THUMBNAIL_PLACEHOLDERS = environment.boolean("THUMBNAIL_PLACEHOLDERS", default=False)
THUMBNAIL_MAX_PIXELS = environment.integer("THUMBNAIL_MAX_PIXELS", 200_000_000)
THUMBNAIL_RENDER_SECONDS = environment.integer("THUMBNAIL_RENDER_SECONDS", 30)
THUMBNAIL_MAX_BYTES = environment.integer("THUMBNAIL_MAX_BYTES", 200 * 2**20)
THUMBNAIL_RENDER_MEMORY = environment.integer("THUMBNAIL_RENDER_MEMORY", 2**30)
THUMBNAIL_WEB_RENDERS = environment.integer("THUMBNAIL_WEB_RENDERS", 1)
THUMBNAIL_WEB_WAITING = environment.integer("THUMBNAIL_WEB_WAITING", 5)
THUMBNAIL_RENDERS_PER_MINUTE = environment.integer("THUMBNAIL_RENDERS_PER_MINUTE", 600)
THUMBNAIL_HEAL = environment.text("THUMBNAIL_HEAL", "off")
THUMBNAIL_CDN = environment.text("THUMBNAIL_CDN", "")
THUMBNAIL_CDN_API = environment.text("THUMBNAIL_CDN_API", "")
THUMBNAIL_CDN_TOKEN = environment.text("THUMBNAIL_CDN_TOKEN", "")
THUMBNAIL_SITE_URL = environment.text("THUMBNAIL_SITE_URL", "")
THUMBNAIL_EAGER = environment.boolean("THUMBNAIL_EAGER", default=False)
THUMBNAIL_DIR = environment.path("THUMBNAIL_DIR", Path("/tmp/thumbnails"))  # noqa: S108  the contract
THUMBNAIL_DIR_GROUP_WRITABLE = environment.boolean("THUMBNAIL_DIR_GROUP_WRITABLE", default=False)
ORIGINALS_DIR = environment.path("ORIGINALS_DIR", VAR_DIR / "originals")
ORIGINALS_DIRS = environment.folders("ORIGINALS_DIRS")

# --- Database -----------------------------------------------------------------------------------
SQLITE_OPTIONS = {
    # Readers and the one writer do not block each other, and a writer waits instead of failing.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
}
DATABASE_SECONDS = environment.integer("DATABASE_SECONDS", 30)
if not 1 <= DATABASE_SECONDS <= 3600:
    raise ImproperlyConfigured("DATABASE_SECONDS must be a whole number from 1 to 3,600.")
POSTGRESQL_OPTIONS = {"connect_timeout": 5, "answer_seconds": DATABASE_SECONDS}


def database(url: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=60))
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}") from None
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["ENGINE"] = "thumbsite.sqlite3"
        config["OPTIONS"] = {**config.get("OPTIONS", {}), **SQLITE_OPTIONS}
    elif config["ENGINE"] == "django.db.backends.postgresql":
        config["ENGINE"] = "thumbsite.postgresql"
        config["CONN_HEALTH_CHECKS"] = True
        config["OPTIONS"] = {**POSTGRESQL_OPTIONS, **config.get("OPTIONS", {})}
    else:
        raise ImproperlyConfigured("DATABASE_URL must name a PostgreSQL or an SQLite database.")
    return config


DATABASES = {
    "default": database(environment.text("DATABASE_URL", f"sqlite:///{VAR_DIR / 'db.sqlite3'}"))
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Queue --------------------------------------------------------------------------------------
REDIS_URL = environment.text("REDIS_URL", f"unix://{VAR_DIR / 'valkey.sock'}")
if not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured("REDIS_URL must start with redis://, rediss:// or unix://.")
RQ_QUEUES = {
    name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": -1}
    for name in ("thumbnails-now", "thumbnails-bulk", "default")
}

# Recovers the runs, so that they go on after any crash.
RQ = {"WORKER_CLASS": "thumbnails.workers.ThumbnailWorker"}
# Its pages are mounted once, in urls.py. In the admin some of them ask for a table that there is
# not.
RQ_SHOW_ADMIN_LINK = False

# Rate limits are counted there, by all of the site's processes together. A server that hangs must
# not hang the site.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
}
NINJA_NUM_PROXIES = environment.integer("PROXIES", 0)
if NINJA_NUM_PROXIES < 0:
    raise ImproperlyConfigured("PROXIES must be a whole number from 0.")

# --- Mail ---------------------------------------------------------------------------------------
# Lowercase, so that no debug page shows it.
mail_server = environment.mail_server("EMAIL_URL")
EMAIL_HOST = mail_server.host
EMAIL_PORT = mail_server.port
EMAIL_HOST_USER = mail_server.user
EMAIL_HOST_PASSWORD = mail_server.password
EMAIL_USE_TLS = mail_server.use_tls
EMAIL_USE_SSL = mail_server.use_ssl
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = environment.text("EMAIL_FROM", "thumbnails@localhost")

# --- Files --------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
# Without a collectstatic, WhiteNoise serves the apps' own static files.
WHITENOISE_USE_FINDERS = True
WHITENOISE_ROOT = BASE_DIR / "thumbsite" / "root"  # favicon.ico, which browsers ask for by itself
# The API's pages need django-ninja's templates and static files, but not its app: an app is
# imported by every command and worker, and with Pydantic that takes a tenth of a second.
NINJA = environment.package("ninja")
STATICFILES_DIRS = [NINJA / "static"]
# Originals and other uploads are private. What is public may be read by a web server that another
# user runs, whatever the umask.
FILE_UPLOAD_PERMISSIONS = 0o640
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o750
PUBLIC_MODES = {"file_permissions_mode": 0o644, "directory_permissions_mode": 0o755}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
        "OPTIONS": PUBLIC_MODES,
    },
    "originals": {
        "BACKEND": "thumbnails.storage.roots.OriginalsStorage",
        "OPTIONS": {"location": ORIGINALS_DIR, "roots": ORIGINALS_DIRS},
    },
    "thumbnails": {
        "BACKEND": "thumbnails.storage.thumbnails.ThumbnailStorage",
        "OPTIONS": {"location": THUMBNAIL_DIR, **PUBLIC_MODES},
    },
}

# --- The site -----------------------------------------------------------------------------------
INSTALLED_APPS = [
    "thumbsite",
    "thumbnails",
    "django.contrib.admin.apps.SimpleAdminConfig",  # urls.py imports the apps' pages
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_rq",
]
MIDDLEWARE = [
    "thumbsite.middleware.request_ids",  # first: what the others log has it, too
    "thumbsite.middleware.uncounted_proxies_logged",
    "thumbsite.middleware.content_security_policy",  # early: static files and errors have it, too
    "thumbsite.middleware.headers_alone_for_head",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "thumbsite.logins.LoginThrottleMiddleware",
    "thumbsite.middleware.QueuePages",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [NINJA / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "thumbsite.urls"
WSGI_APPLICATION = "thumbsite.wsgi.application"
AUTHENTICATION_BACKENDS = [
    "thumbsite.logins.LoginThrottle",  # first: it counts before a password is checked
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_THOUSAND_SEPARATOR = True  # in Django's own pages, as in the app's
USE_TZ = True

LOG_FORMAT = environment.one_of("LOG_FORMAT", "line", "json")
if LOG_FORMAT == "json":
    environment.package("pythonjsonlogger")
FORMATTERS = {
    "line": {
        "class": "thumbsite.logs.LineFormatter",
        "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
    },
    "json": {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "fmt": "%(levelname)s %(name)s %(message)s",
        "rename_fields": {"levelname": "level", "name": "logger"},
        "timestamp": "time",
    },
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": "thumbsite.logs.RequestIdFilter"}},
    "formatters": {LOG_FORMAT: FORMATTERS[LOG_FORMAT]},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["request"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"thumbnails": {"level": "INFO"}},
}

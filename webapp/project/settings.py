"""Django's settings, read once from the environment; a bad one raises SettingError."""

from __future__ import annotations

import os
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF

from bus.errors import SettingError
from bus.runtime.settings import REDIS_SCHEMES, Environment
from bus.ticket import KeySet

_environment = Environment(os.environ)


def _database(url: str) -> dict[str, Any]:
    try:
        database: dict[str, Any] = dict(
            dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True)
        )
    except ValueError as error:
        raise SettingError("DATABASE_URL", str(error)) from error
    ours = _DATABASE_OPTIONS.get(database["ENGINE"].rpartition(".")[2], {})
    database["OPTIONS"] = ours | database.get("OPTIONS", {})
    return database


_DATABASE_OPTIONS: dict[str, dict[str, Any]] = {
    # IMMEDIATE: a transaction that reads and then writes waits for its turn instead of failing.
    "sqlite3": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
    "mysql": {
        "charset": "utf8mb4",
        "isolation_level": "read committed",
        "init_command": "SET sql_mode='STRICT_TRANS_TABLES'",
        "connect_timeout": 5,
    },
}

# Of this program.
BROKER_URL = _environment.broker_url()
BROKER_API_URL = _environment.broker_api_url()
MONGO_URL = _environment.mongo_url()
# Only log-outs go there, so that their sockets end at once.
REDIS_URL = _environment.optional_url("REDIS_URL", REDIS_SCHEMES)
ARCHIVE = _environment.flag("ARCHIVE", True)
TICKET_KEYS = KeySet.from_environment(_environment)
BRIDGE_URL = _environment.url("BRIDGE_URL", ("ws", "wss"), "ws://{host}:8001/")

# Of Django.
DEBUG = _environment.flag("DEBUG", False)
SECRET_KEY = _environment.text("SECRET_KEY")
ALLOWED_HOSTS = list(_environment.words("ALLOWED_HOSTS", "127.0.0.1,localhost"))
CSRF_TRUSTED_ORIGINS = list(_environment.words("ALLOWED_ORIGINS"))
DATABASES = {"default": _database(_environment.text("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ROOT_URLCONF = "webapp.project.urls"
WSGI_APPLICATION = "webapp.project.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "csp",
    "webapp.project",
    "webapp.accounts",
    "webapp.rooms",
    "webapp.invitations",
    "webapp.outbox",
    "webapp.chat",
    "webapp.history",
]
MIDDLEWARE = [
    "webapp.project.middleware.Watching",
    "django.middleware.security.SecurityMiddleware",
    "webapp.project.middleware.ContentSecurityPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ],
        },
    },
]

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "rooms:list"
LOGOUT_REDIRECT_URL = "accounts:login"

_secure_cookies = _environment.flag("SECURE_COOKIES", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure_cookies
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "webapp.project.error_pages.csrf_failure"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# Form or JSON, a request of this size holds the longest message however it is escaped.
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 50

# Static files come from the apps' folders, so there is no build step; browsers ask again after
# a minute and are told 304 by the file's time.
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 60
WHITENOISE_ALLOW_ALL_ORIGINS = False

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False
# The process configures logging (bus.runtime.process): all of it on standard error.
LOGGING_CONFIG = None

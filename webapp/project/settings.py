"""Django's settings: those of the environment, read once, and those that never change.

Raises SettingError for a bad one.
"""

from __future__ import annotations

import os

from csp.constants import NONE, SELF

from bus.runtime.settings import Environment
from webapp.project.configuration import settings_from

globals().update(settings_from(Environment(os.environ)))

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ROOT_URLCONF = "webapp.project.urls"
WSGI_APPLICATION = "webapp.project.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django.contrib.messages",
    "django.contrib.humanize",
    "csp",
    "webapp.project",
    "webapp.clock",
    "webapp.accounts",
    "webapp.rooms",
    "webapp.invitations",
    "webapp.outbox",
    "webapp.mail",
    "webapp.chat",
    "webapp.history",
    "webapp.audit",
    # Last, so that our templates come before theirs.
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
]
MIDDLEWARE = [
    "webapp.project.middleware.Watching",
    "webapp.project.middleware.NoStore",
    "webapp.project.middleware.ApiByHttps",
    "webapp.project.middleware.Outages",
    "django.middleware.security.SecurityMiddleware",
    "webapp.project.middleware.ContentSecurityPolicy",
    "webapp.project.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
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
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_USER_MODEL = "accounts.User"
# The first keeps new passwords. One of the others is kept anew when its owner logs in.
PASSWORD_HASHERS = [
    "webapp.accounts.plugins.hashers.Argon2id",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "webapp.accounts.plugins.validators.GuessesValidator"},
]
AUTHENTICATION_BACKENDS = [
    "webapp.accounts.plugins.backends.ByAddress",
    # For sessions that began with it.
    "django.contrib.auth.backends.ModelBackend",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
EMAIL_BACKEND = "webapp.mail.queue.Queue"
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "rooms:list"
LOGOUT_REDIRECT_URL = "account_login"

ACCOUNT_ADAPTER = "webapp.accounts.plugins.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_FORMS = {
    "signup": "webapp.accounts.forms.RegisterForm",
    "login": "webapp.accounts.forms.LoginForm",
    "reset_password": "webapp.accounts.forms.ResetPasswordForm",
    "reset_password_from_key": "webapp.accounts.forms.ResetPasswordKeyForm",
    "change_password": "webapp.accounts.forms.ChangePasswordForm",
    "add_email": "webapp.accounts.forms.ChangeAddressForm",
    "reauthenticate": "webapp.accounts.forms.ReauthenticateForm",
}
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_CONFIRMATION_AUTHENTICATED_REDIRECT_URL = "/accounts/email/"
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_SESSION_REMEMBER = True
SOCIALACCOUNT_ADAPTER = "webapp.accounts.plugins.social.SocialAdapter"
SOCIALACCOUNT_FORMS = {"signup": "webapp.accounts.plugins.social.SocialRegisterForm"}
# By a link: after a form, Chromium applies form-action to where the provider is, too.
SOCIALACCOUNT_LOGIN_ON_GET = True
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "chatbus"
# A code of half a minute ago is good, too: clocks differ, and people type.
MFA_TOTP_TOLERANCE = 1

# Balancers ask for the health by plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^health/"]
# Whether browsers preload HSTS is for the owner of the whole domain to decide.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
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
        "object-src": [NONE],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# Form or JSON, a request of this size holds the longest message however it is escaped.
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 50

STATIC_URL = "/static/"
STORAGES = {"staticfiles": {"BACKEND": "webapp.project.static_files.HashedFiles"}}
# For those asked for by their plain names; the hashed ones never change.
WHITENOISE_MAX_AGE = 60
WHITENOISE_ALLOW_ALL_ORIGINS = False

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False
# The process configures logging (bus.runtime.log_format): all of it on standard error.
LOGGING_CONFIG = None

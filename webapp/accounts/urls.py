"""Pages under /accounts/. The names are those by which django-allauth finds them."""

from __future__ import annotations

from allauth.account import views as allauth
from allauth.socialaccount.providers.openid_connect import views as openid_connect
from django.contrib.auth.views import LogoutView
from django.urls import include, path, re_path

from webapp.accounts.views import (
    LoginView,
    ProfileView,
    RegisterView,
    SessionsView,
    log_in_by_provider,
)

urlpatterns = [
    path("register/", RegisterView.as_view(), name="account_signup"),
    path("login/", LoginView.as_view(), name="account_login"),
    path("logout/", LogoutView.as_view(), name="account_logout"),
    path("profile/", ProfileView.as_view(), name="account_profile"),
    path("sessions/", SessionsView.as_view(), name="usersessions_list"),
    path("factors/", include("allauth.mfa.urls")),
    path("connections/", include("allauth.socialaccount.urls")),
    path("oidc/<str:provider_id>/login/", log_in_by_provider, name="openid_connect_login"),
    path(
        "oidc/<str:provider_id>/login/callback/",
        openid_connect.callback,
        name="openid_connect_callback",
    ),
    path("inactive/", allauth.account_inactive, name="account_inactive"),
    path("again/", allauth.reauthenticate, name="account_reauthenticate"),
    path(
        "again/code/",
        allauth.request_reauthentication_code,
        name="account_request_reauthentication_code",
    ),
    path(
        "again/code/confirm/",
        allauth.confirm_reauthentication_code,
        name="account_confirm_reauthentication_code",
    ),
    path("email/", allauth.email, name="account_email"),
    path("email/sent/", allauth.email_verification_sent, name="account_email_verification_sent"),
    path("email/confirm/<str:key>/", allauth.confirm_email, name="account_confirm_email"),
    path("password/", allauth.password_change, name="account_change_password"),
    path("password/set/", allauth.password_set, name="account_set_password"),
    path("password/reset/", allauth.password_reset, name="account_reset_password"),
    path("password/reset/sent/", allauth.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>[^/]+)/$",
        allauth.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "password/reset/done/",
        allauth.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
]

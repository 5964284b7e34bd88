"""The pages that differ from django-allauth's."""

from __future__ import annotations

import logging

import requests
from allauth.account import app_settings
from allauth.account import views as allauth
from allauth.socialaccount.adapter import get_adapter as get_social_adapter
from allauth.socialaccount.providers.openid_connect import views as openid_connect
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views import View

from webapp.accounts import sessions
from webapp.accounts.forms import EMAIL_TAKEN, LoginForm, ProfileForm, RegisterForm
from webapp.accounts.models import User
from webapp.audit.models import Action
from webapp.audit.services import record
from webapp.project.api import UserRequest
from webapp.project.error_pages import error_answer
from webapp.project.errors import Unavailable

logger = logging.getLogger(__name__)

# As long as failed log-ins of an address count (ACCOUNT_RATE_LIMITS).
LOCKED_SECONDS = 300


class RegisterView(allauth.SignupView):
    """Makes an account. Bad input keeps the form and shows what is wrong."""

    def form_valid(self, form: RegisterForm) -> HttpResponse:
        try:
            with transaction.atomic():
                return super().form_valid(form)
        except IntegrityError:
            # Another request registered the address after the form was checked.
            if app_settings.EMAIL_VERIFICATION != app_settings.EmailVerificationMethod.MANDATORY:
                form.add_error("email", EMAIL_TAKEN)
                return self.form_invalid(form)
            form.account_already_exists = True
            return super().form_valid(form)


class LoginView(allauth.LoginView):
    def form_invalid(self, form: LoginForm) -> HttpResponse:
        response = super().form_invalid(form)
        if form.has_error("__all__", "too_many_login_attempts"):
            response.status_code = 429
            response.headers["Retry-After"] = str(LOCKED_SECONDS)
        return response


class ProfileView(LoginRequiredMixin, View):
    """The name that others see, and the time zone."""

    def get(self, request: UserRequest) -> HttpResponse:
        return self._page(request, ProfileForm(instance=request.user))

    def post(self, request: UserRequest) -> HttpResponse:
        # Not the user of the request, whom the page shows: a refused name must not be in its bar.
        form = ProfileForm(request.POST, instance=User.objects.get(id=request.user.id))
        if not form.is_valid():
            return self._page(request, form, status=400)
        form.save()
        messages.success(request, "Saved.")
        return redirect("account_profile")

    def _page(self, request: UserRequest, form: ProfileForm, status: int = 200) -> HttpResponse:
        return render(request, "accounts/profile.html", {"form": form}, status=status)


class SessionsView(LoginRequiredMixin, View):
    """Where the user is logged in. A POST ends the session with the number ``session``, or all
    but this one."""

    def get(self, request: UserRequest) -> HttpResponse:
        found = UserSession.objects.purge_and_list(request.user)
        found.sort(key=lambda session: (not session.is_current(), -session.created_at.timestamp()))
        return render(request, "accounts/sessions.html", {"sessions": found})

    def post(self, request: UserRequest) -> HttpResponse:
        others = UserSession.objects.filter(user=request.user).exclude(
            session_key=request.session.session_key
        )
        chosen = request.POST.get("session", "")
        for session in others:
            # Another's number, or one that is gone, is none of these.
            if chosen in ("", str(session.id)):
                sessions.end_session(session)
                record(
                    Action.LOGGED_OUT_ELSEWHERE, detail=sessions.session_name(session.session_key)
                )
        return redirect("usersessions_list")


def log_in_by_provider(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Sends the browser to the OpenID Connect provider; 503 while that does not answer."""
    try:
        return openid_connect.login(request, provider_id)
    except requests.RequestException as error:
        logger.warning("OIDC_SERVER does not answer: %s", error)
        name = get_social_adapter().get_provider(request, provider_id).name
        away = Unavailable(f"{name} does not answer. Try again in a moment.")
        response = error_answer(request, away)
        response.headers["Retry-After"] = str(away.retry_after)
        return response

"""The pages to register and to log in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import login
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.db import IntegrityError, transaction
from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.views.generic import CreateView

from webapp.accounts.forms import EMAIL_TAKEN, LoginForm, RegisterForm
from webapp.accounts.models import User


class RegisterView(CreateView):
    """Makes an account and logs it in. Bad input keeps the form and shows what is wrong."""

    form_class = RegisterForm
    template_name = "accounts/register.html"
    success_url = reverse_lazy("rooms:list")

    def dispatch(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponseBase:
        """Redirects logged-in users, as the log-in page does, so that their session stays."""
        if request.user.is_authenticated:
            return redirect(self.success_url)
        return super().dispatch(request, *arguments, **options)

    def form_valid(self, form: BaseModelForm[User]) -> HttpResponse:
        try:
            with transaction.atomic():
                user = form.save()
        except IntegrityError:
            # Another request registered the address after the form was checked.
            form.add_error("email", EMAIL_TAKEN)
            return self.form_invalid(form)
        login(self.request, user)
        return redirect(self.success_url)


class LoginView(DjangoLoginView):
    form_class = LoginForm
    template_name = "accounts/login.html"
    redirect_authenticated_user = True

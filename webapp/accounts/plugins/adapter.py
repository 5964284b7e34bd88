"""What django-allauth asks of chatbus (its ``DefaultAccountAdapter`` says where it is called)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from webapp.accounts.models import User

if TYPE_CHECKING:
    # The forms import this adapter.
    from webapp.accounts.forms import RegisterForm


class AccountAdapter(DefaultAccountAdapter):
    error_messages: ClassVar[dict[str, str]] = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": "E-mail address and password do not match an account.",
        "email_taken": "There is an account with this e-mail address. Log in instead.",
        "too_many_login_attempts": "Too many failed log-ins. Wait five minutes, or choose a new "
        "password by mail.",
    }

    def save_user(
        self, request: HttpRequest, user: User, form: RegisterForm, commit: bool = True
    ) -> User:
        user.display_name = form.cleaned_data["display_name"]
        return super().save_user(request, user, form, commit)

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Confirms an address, and makes it the user's one, unless another account has it.

        An account that somebody else registered with this address, without confirming it, keeps
        it until a password reset by mail: only one account can have an address.
        """
        try:
            with transaction.atomic():
                return super().confirm_email(request, email_address)
        except IntegrityError:
            template = "account/messages/email_confirmation_failed.txt"
            context: dict[str, Any] = {"email": email_address.email}
            self.add_message(request, messages.ERROR, template, context)
            return False

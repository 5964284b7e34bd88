"""Changes accounts, where django-allauth has no flow for it."""

from __future__ import annotations

from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from django.db import transaction
from django.http import HttpRequest

from webapp.accounts.models import User
from webapp.audit.models import Action
from webapp.audit.services import record


@transaction.atomic
def replace_address(request: HttpRequest, user: User, email: str) -> EmailAddress:
    """Gives ``user``, who has never confirmed an address, another one. Raises IntegrityError."""
    EmailAddress.objects.filter(user=user).delete()
    user.email = email
    user.save(update_fields=["email"])
    address = EmailAddress.objects.create(user=user, email=email, primary=True)
    send_verification_email_to_address(request, address)
    record(Action.ADDRESS_CHANGED, user_id=user.id, detail=email)
    return address


def deactivate(user: User) -> None:
    """Ends the user's sessions with their sockets (see ``sessions``), and lets nobody log in."""
    user.is_active = False
    user.save(update_fields=["is_active"])


def activate(user: User) -> None:
    user.is_active = True
    user.save(update_fields=["is_active"])


@transaction.atomic
def confirm(user: User) -> None:
    """Takes the present address of ``user`` as theirs, on the word of an operator."""
    EmailAddress.objects.filter(user=user).exclude(email=user.email).delete()
    EmailAddress.objects.update_or_create(
        user=user, email=user.email, defaults={"primary": True, "verified": True}
    )
    record(Action.ADDRESS_CONFIRMED, user_id=user.id, detail=user.email)

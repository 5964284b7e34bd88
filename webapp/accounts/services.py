"""Changes accounts, where django-allauth has no flow for it."""

from __future__ import annotations

from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from django.db import transaction
from django.http import HttpRequest

from webapp.accounts.models import User


@transaction.atomic
def replace_address(request: HttpRequest, user: User, email: str) -> EmailAddress:
    """Gives ``user``, who has never confirmed an address, another one. Raises IntegrityError."""
    EmailAddress.objects.filter(user=user).delete()
    user.email = email
    user.save(update_fields=["email"])
    address = EmailAddress.objects.create(user=user, email=email, primary=True)
    send_verification_email_to_address(request, address)
    return address

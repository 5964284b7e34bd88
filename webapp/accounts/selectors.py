"""Finds users by their e-mail addresses, and says which addresses are confirmed.

An address is confirmed when its owner has opened the link that was sent there. While everything
listens on loopback and there is no mail server, every address counts as confirmed (see
``webapp.project.configuration``): only people of that machine can have registered.
"""

from __future__ import annotations

from django.conf import settings
from django.db.models import F, QuerySet

from webapp.accounts.addresses import normal_email
from webapp.accounts.models import User


def user_with_confirmed_address(email: object) -> User | None:
    """The active user whose confirmed address is ``email``, in any spelling.

    Raises InvalidInput for what is not an address.
    """
    return _confirmed(User.objects.filter(email=normal_email(email), is_active=True)).first()


def has_confirmed_address(user: User) -> bool:
    return _confirmed(User.objects.filter(id=user.id)).exists()


def _confirmed(users: QuerySet[User]) -> QuerySet[User]:
    """Those of ``users`` whose present address is confirmed, not one they had before."""
    if settings.ADDRESSES_COUNT_AS_CONFIRMED:
        return users
    return users.filter(emailaddress__email=F("email"), emailaddress__verified=True)

"""What Django and django-allauth report of log-ins and accounts, as entries of the audit log."""

from __future__ import annotations

from typing import Any

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from allauth.socialaccount import signals as social
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver

from webapp.accounts.models import User
from webapp.audit.models import Action
from webapp.audit.services import record

# What an account may do, with the action that gives it and the one that takes it.
RIGHTS = {
    "is_active": (Action.ACTIVATED, Action.DEACTIVATED),
    "is_staff": (Action.STAFF_GRANTED, Action.STAFF_WITHDRAWN),
}


@receiver(user_logged_in)
def logged_in(user: User, **_: Any) -> None:
    record(Action.LOGGED_IN, actor=user)


@receiver(user_logged_out)
def logged_out(user: User | None, **_: Any) -> None:
    if user:
        record(Action.LOGGED_OUT, actor=user)


@receiver(user_login_failed)
def login_failed(credentials: dict[str, Any], **_: Any) -> None:
    """The address that was entered is not kept: some type their password there."""
    try:
        user = User.objects.get_by_natural_key(credentials.get("email"))
    except User.DoesNotExist:
        record(Action.LOGIN_FAILED)
    else:
        record(Action.LOGIN_FAILED, user_id=user.id)


@receiver(mfa.authentication_failed)
def factor_failed(user: User, authenticator: Authenticator, **_: Any) -> None:
    record(Action.FACTOR_FAILED, user_id=user.id, detail=authenticator.type)


@receiver(account.user_signed_up)
def registered(user: User, **_: Any) -> None:
    record(Action.REGISTERED, actor=user)


@receiver(account.email_confirmed)
def address_confirmed(email_address: EmailAddress, **_: Any) -> None:
    record(Action.ADDRESS_CONFIRMED, user_id=email_address.user_id, detail=email_address.email)


@receiver(account.email_changed)
def address_changed(user: User, to_email_address: EmailAddress, **_: Any) -> None:
    record(Action.ADDRESS_CHANGED, user_id=user.id, detail=to_email_address.email)


@receiver([account.password_changed, account.password_set])
def password_changed(user: User, **_: Any) -> None:
    record(Action.PASSWORD_CHANGED, user_id=user.id)


@receiver(account.password_reset)
def password_reset(user: User, **_: Any) -> None:
    record(Action.PASSWORD_RESET, user_id=user.id)


@receiver(social.social_account_added)
def provider_connected(sociallogin: SocialLogin, **_: Any) -> None:
    account = sociallogin.account
    record(Action.PROVIDER_CONNECTED, user_id=account.user_id, detail=account.provider)


@receiver(social.social_account_removed)
def provider_disconnected(socialaccount: SocialAccount, **_: Any) -> None:
    detail = socialaccount.provider
    record(Action.PROVIDER_DISCONNECTED, user_id=socialaccount.user_id, detail=detail)


@receiver(mfa.authenticator_added)
def factor_added(user: User, authenticator: Authenticator, **_: Any) -> None:
    record(Action.FACTOR_ADDED, user_id=user.id, detail=authenticator.type)


@receiver(mfa.authenticator_removed)
def factor_removed(user: User, authenticator: Authenticator, **_: Any) -> None:
    record(Action.FACTOR_REMOVED, user_id=user.id, detail=authenticator.type)


@receiver(mfa.authenticator_reset)
def factor_reset(user: User, authenticator: Authenticator, **_: Any) -> None:
    record(Action.FACTOR_RESET, user_id=user.id, detail=authenticator.type)


@receiver(pre_save, sender=User)
def note_rights(instance: User, update_fields: frozenset[str] | None, **_: Any) -> None:
    """Notes what a user may do before it is saved. Most saves name other fields, as a log-in's."""
    instance.rights_before = None
    if update_fields is None or RIGHTS.keys() & update_fields:
        instance.rights_before = User.objects.filter(pk=instance.pk).values(*RIGHTS).first()


@receiver(post_save, sender=User)
def rights_changed(instance: User, **_: Any) -> None:
    for right, before in (instance.rights_before or {}).items():
        now = getattr(instance, right)
        if now != before:
            given, taken = RIGHTS[right]
            record(given if now else taken, user_id=instance.id)

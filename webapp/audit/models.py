"""The table of the audit log, to which rows are only ever added."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NoReturn

from django.db import models
from django.utils import timezone

MAX_DETAIL = 254


class Action(StrEnum):
    """What an entry says that somebody did; operators search for these words."""

    LOGGED_IN = "session.began"
    LOGIN_FAILED = "login.failed"
    FACTOR_FAILED = "login.factor_failed"
    LOGGED_OUT = "session.ended"
    LOGGED_OUT_ELSEWHERE = "session.ended_by_user"
    REGISTERED = "account.registered"
    DEACTIVATED = "account.deactivated"
    ACTIVATED = "account.activated"
    STAFF_GRANTED = "account.staff_granted"
    STAFF_WITHDRAWN = "account.staff_withdrawn"
    ADDRESS_CONFIRMED = "account.address_confirmed"
    ADDRESS_CHANGED = "account.address_changed"
    PASSWORD_CHANGED = "password.changed"
    PASSWORD_RESET = "password.reset"
    PROVIDER_CONNECTED = "provider.connected"
    PROVIDER_DISCONNECTED = "provider.disconnected"
    FACTOR_ADDED = "factor.added"
    FACTOR_REMOVED = "factor.removed"
    FACTOR_RESET = "factor.reset"
    INVITATION_MADE = "invitation.made"
    INVITATION_DECLINED = "invitation.declined"
    INVITATION_REVOKED = "invitation.revoked"
    LINK_MADE = "invitation_link.made"
    LINK_REVOKED = "invitation_link.revoked"
    MEMBER_JOINED = "member.joined"
    MEMBER_LEFT = "member.left"
    MEMBER_REMOVED = "member.removed"
    ROLE_CHANGED = "member.role_changed"
    ROOM_MADE_PUBLIC = "room.made_public"
    ROOM_MADE_PRIVATE = "room.made_private"
    ROOM_DELETED = "room.deleted"


class AppendOnlyError(Exception):
    """An attempt to change or delete an entry."""

    def __init__(self) -> None:
        super().__init__("The audit log is append-only: no entry is changed or deleted.")


class Entries(models.QuerySet["AuditEntry"]):
    def update(self, **values: Any) -> NoReturn:
        raise AppendOnlyError

    def delete(self) -> NoReturn:
        raise AppendOnlyError

    def bulk_create(self, objs: Any, **options: Any) -> list[AuditEntry]:
        if options.get("update_conflicts"):
            raise AppendOnlyError
        return super().bulk_create(objs, **options)

    def expire(self, before: datetime, most: int) -> int:
        """Deletes up to ``most`` of the entries that are older; returns how many it found."""
        expired = list(self.filter(at__lt=before).values_list("id", flat=True)[:most])
        models.QuerySet.delete(self.filter(id__in=expired))
        return len(expired)


class AuditEntry(models.Model):
    """One thing that somebody did, or tried.

    People and rooms are numbers and not references: an entry outlives them.
    """

    at = models.DateTimeField(default=timezone.now, db_index=True)
    action = models.CharField(max_length=40)
    # Who did it, if anybody was logged in, and the user whom it is about.
    actor_id = models.BigIntegerField(null=True, db_index=True)
    user_id = models.BigIntegerField(null=True, db_index=True)
    room_id = models.UUIDField(null=True)
    # The IP address of the request; empty for commands and processes.
    address = models.CharField(max_length=45, blank=True)
    # The login session by its name in socket tickets.
    session = models.CharField(max_length=64, blank=True)
    # The new role, the invited address, the kind of factor.
    detail = models.CharField(max_length=MAX_DETAIL, blank=True)

    objects: ClassVar[models.Manager[AuditEntry]] = Entries.as_manager()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.action}"

    def save(self, **options: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError
        # Django would first try to change a row that has this number already.
        super().save(**options | {"force_insert": True})

    def delete(self, **_: Any) -> NoReturn:
        raise AppendOnlyError

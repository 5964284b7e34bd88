"""Offers membership in a room, and what becomes of an offer.

An offer is kept by its e-mail address, whether or not there is an account with it: the inviter
learns nothing of that, neither by the answer nor by the time that it takes.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings

from bus.events import InvitedData, UserInvited
from bus.runtime import clock
from webapp.accounts.addresses import normal_email
from webapp.accounts.models import User
from webapp.accounts.selectors import user_with_confirmed_address
from webapp.audit.models import Action
from webapp.audit.services import record
from webapp.invitations import mail
from webapp.invitations.models import LIFE, Invitation
from webapp.invitations.selectors import invitation_to, open_invitations
from webapp.project.errors import TooMany
from webapp.project.transactions import atomic
from webapp.rooms.memberships import announce, check_not_archived, join, lock_room
from webapp.rooms.models import Membership
from webapp.rooms.selectors import managing_membership

DAY = timedelta(days=1)
# No user has this id.
NOBODY = 0


@atomic
def invite(room_id: uuid.UUID, email: object, *, actor: User, page: str) -> None:
    """Offers membership to the owner of the address ``email``, who also gets a mail.

    ``page`` is the URL at which they accept or decline. While an offer to the address is open,
    nothing changes. Raises NotFound, Forbidden, Conflict (an archived room), InvalidInput or
    TooMany.
    """
    address = normal_email(email)
    room = lock_room(room_id)
    managing_membership(actor, room_id)
    check_not_archived(room)
    if open_invitations().filter(room=room, email=address).exists():
        return
    _check_bounds(actor, address)
    now = clock.now()
    invitation = Invitation.objects.create(
        room=room, inviter=actor, email=address, created_at=now, expires_at=now + LIFE
    )
    record(Action.INVITATION_MADE, actor=actor, room_id=room_id, detail=address)
    _announce(invitation, user_with_confirmed_address(address))
    mail.send(invitation, page)


def _announce(invitation: Invitation, invited: User | None) -> None:
    """Stores the event for the own channel of who is invited, for ``outbox_relay`` to publish.

    Nobody listens on the channel of NOBODY. So an address without an account costs the same, and
    the time of the answer does not tell that there is none.
    """
    room = invitation.room
    data = InvitedData(invited.id if invited else NOBODY, invitation.id, room.name)
    announce(room, UserInvited, data, actor=invitation.inviter)


@atomic
def accept(invitation_id: uuid.UUID, user: User) -> Membership:
    """Makes ``user`` a member of the room. Raises NotFound, Forbidden or Conflict as ``join``."""
    invitation = _locked(invitation_id, user)
    membership = join(invitation.room_id, user, invited_at=invitation.created_at)
    _end(invitation)
    return membership


@atomic
def decline(invitation_id: uuid.UUID, user: User) -> None:
    """Raises NotFound."""
    invitation = _locked(invitation_id, user)
    _end(invitation)
    record(Action.INVITATION_DECLINED, actor=user, room_id=invitation.room_id)


@atomic
def revoke(room_id: uuid.UUID, invitation_id: uuid.UUID, *, actor: User) -> None:
    """Withdraws an offer; a repeated call changes nothing. Raises NotFound or Forbidden."""
    room = lock_room(room_id)
    managing_membership(actor, room_id)
    for invitation in open_invitations().filter(room=room, id=invitation_id):
        _end(invitation)
        record(Action.INVITATION_REVOKED, actor=actor, room_id=room_id, detail=invitation.email)


def _locked(invitation_id: uuid.UUID, user: User) -> Invitation:
    """An open offer to ``user``, which only the caller can change until commit."""
    lock_room(invitation_to(user, invitation_id).room_id)
    return invitation_to(user, invitation_id)


def _end(invitation: Invitation) -> None:
    invitation.ended_at = clock.now()
    invitation.save(update_fields=["ended_at"])


def _check_bounds(actor: User, address: str) -> None:
    """What was revoked or declined counts too, because its mail was sent."""
    today = Invitation.objects.filter(created_at__gt=clock.now() - DAY)
    most = settings.INVITATIONS_PER_DAY
    if today.filter(inviter=actor).count() >= most:
        raise TooMany(f"You have invited {most} times in 24 hours, the most that is accepted.")
    most = settings.INVITATIONS_PER_ADDRESS
    if today.filter(email=address).count() >= most:
        raise TooMany(
            f"This address was invited {most} times in 24 hours, the most that is accepted."
        )

"""The mail that tells of an invitation."""

from __future__ import annotations

from django.core.mail import send_mail

from webapp.invitations.models import Invitation

TEXT = """\
{inviter} invites you to the room “{room}”.

Accept or decline here: {page}

Log in with the address {email}, or make an account with it. The invitation holds until {day}
(UTC). If you do not know {inviter}, do nothing.
"""


def send(invitation: Invitation, page: str) -> None:
    inviter = invitation.inviter.display_name
    text = TEXT.format(
        inviter=inviter,
        room=invitation.room.name,
        page=page,
        email=invitation.email,
        day=invitation.expires_at.strftime("%Y-%m-%d %H:%M"),
    )
    subject = f"{inviter} invites you to “{invitation.room.name}”"
    send_mail(subject, text, None, [invitation.email])

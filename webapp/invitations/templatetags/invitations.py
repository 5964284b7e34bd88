"""Shows a user's invitations on pages of other apps."""

from __future__ import annotations

from typing import Any

from django import template

from webapp.invitations.selectors import invitations_to

register = template.Library()


@register.inclusion_tag("invitations/cards.html", takes_context=True)
def invitation_cards(context: dict[str, Any]) -> dict[str, Any]:
    request = context["request"]
    return {
        "invitations": invitations_to(request.user),
        "csrf_token": context["csrf_token"],
    }

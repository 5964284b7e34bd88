"""Converts the addresses that IDNA 2003 could not convert to ASCII.

The others stay as they are: ``strasse.example`` may have been typed with an ß or without.
"""

from __future__ import annotations

import logging
from typing import Any

import idna
from django.db import migrations

logger = logging.getLogger(__name__)


def rewrite_domains(apps: Any, schema_editor: Any) -> None:
    users = apps.get_model("accounts", "User").objects.using(schema_editor.connection.alias)
    for user_id, email in list(users.values_list("id", "email")):
        if not email.isascii():
            _rewrite(users, user_id, email)


def _rewrite(users: Any, user_id: int, email: str) -> None:
    name, _, domain = email.rpartition("@")
    try:
        # As in addresses.py when this was written: a migration does not change with it.
        address = f"{name}@{idna.encode(domain, uts46=True, transitional=False).decode()}".lower()
    except UnicodeError:
        logger.warning("user %d cannot log in: the domain of the e-mail address is invalid", user_id)
        return
    if users.filter(email=address).exists():
        logger.warning("user %d cannot log in: another user has the same e-mail address", user_id)
        return
    users.filter(id=user_id).update(email=address)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RunPython(rewrite_domains, migrations.RunPython.noop, elidable=True)
    ]

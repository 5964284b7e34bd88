"""Gives each user's address the row in which django-allauth notes whether it is confirmed.

None is: nobody has proved yet that an address is theirs.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

BATCH = 1_000


def add_addresses(apps: Any, schema_editor: Any) -> None:
    alias = schema_editor.connection.alias
    addresses = apps.get_model("account", "EmailAddress").objects.using(alias)
    users = apps.get_model("accounts", "User").objects.using(alias)
    without = users.filter(emailaddress=None).order_by("id")
    while batch := list(without.values_list("id", "email")[:BATCH]):
        addresses.bulk_create(
            addresses.model(user_id=user_id, email=email, primary=True) for user_id, email in batch
        )


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_ascii_domains"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]

    operations = [migrations.RunPython(add_addresses, migrations.RunPython.noop, elidable=True)]

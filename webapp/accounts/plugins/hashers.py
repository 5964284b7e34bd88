"""How passwords are kept."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2id(Argon2PasswordHasher):
    """Argon2id with 19 MiB and two passes, a setting that OWASP recommends.

    Django's own takes 100 MiB and eight threads: as many log-ins at once as a process has threads
    would take the memory of everything else beside it.
    (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html)
    """

    memory_cost = 19 * 1024
    time_cost = 2
    parallelism = 1

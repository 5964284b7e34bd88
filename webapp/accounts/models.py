"""The user: logs in by e-mail, is shown by display name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.utils import timezone

MAX_DISPLAY_NAME = 80


class UserManager(BaseUserManager["User"]):
    def create_user(
        self, email: str, display_name: str, password: str | None = None, **fields: Any
    ) -> User:
        """A new user; without a password, one who cannot log in."""
        user = self.model(email=normal_email(email), display_name=display_name, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(
        self, email: str, display_name: str, password: str | None = None, **fields: Any
    ) -> User:
        return self.create_user(
            email, display_name, password, is_staff=True, is_superuser=True, **fields
        )

    def get_by_natural_key(self, username: str | None) -> User:
        """Who logs in with this e-mail address, in whatever case they typed it."""
        return self.get(email=normal_email(username or ""))


class User(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField("e-mail", unique=True)
    display_name = models.CharField(max_length=MAX_DISPLAY_NAME)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    joined_at = models.DateTimeField(default=timezone.now)

    objects = UserManager()

    EMAIL_FIELD = USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["display_name"]

    def __str__(self) -> str:
        return self.display_name

    def clean(self) -> None:
        self.email = normal_email(self.email)


def normal_email(email: str) -> str:
    """The form in which addresses are stored and compared.

    An international domain is written in ASCII (RFC 5891): MySQL's usual collations take
    letters with and without accents for the same.
    """
    name, at, domain = email.strip().lower().rpartition("@")
    with suppress(UnicodeError):
        domain = domain.encode("idna").decode()
    return f"{name}{at}{domain}"

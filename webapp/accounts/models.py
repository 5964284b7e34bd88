"""The user model: users log in by e-mail address and are shown by display name."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.utils import timezone

from webapp.accounts.addresses import MAX_EMAIL, normal_email
from webapp.project.errors import InvalidInput

MAX_DISPLAY_NAME = 80
MAX_TIME_ZONE = 64


class UserManager(BaseUserManager["User"]):
    def create_user(
        self, email: str, display_name: str, password: str | None = None, **fields: Any
    ) -> User:
        """Makes a user, who cannot log in without a password. Raises InvalidInput."""
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
        """The user with this e-mail address, in any spelling. Raises User.DoesNotExist."""
        try:
            return self.get(email=normal_email(username))
        except InvalidInput as error:
            raise self.model.DoesNotExist(str(error)) from error


class User(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField("e-mail", unique=True, max_length=MAX_EMAIL)
    display_name = models.CharField(max_length=MAX_DISPLAY_NAME)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    # An IANA name; the times on pages that the server renders are in it.
    time_zone = models.CharField(max_length=MAX_TIME_ZONE, default="UTC", db_default="UTC")
    joined_at = models.DateTimeField(default=timezone.now)

    objects = UserManager()

    EMAIL_FIELD = USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["display_name"]

    def __str__(self) -> str:
        return self.display_name

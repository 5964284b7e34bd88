"""Users: they log in by e-mail address and are shown by display name."""

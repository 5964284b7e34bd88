"""Users: e-mail as login, a display name; register, log in, log out."""
